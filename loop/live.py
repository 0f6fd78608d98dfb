"""The part of the state that is only shown: the last part of each live stream.

A client that attaches late gets these last parts at once. The whole text is in each experiment's own files.
"""

from __future__ import annotations

import math

from msgspec import Struct, field

from loop import events as ev

TRANSCRIPT_TAIL = 400
"""How many messages of the agent's transcript are kept here."""
AT_ONCE = 32
"""A piece is joined to one of so many newest messages: among them are those of agents that talk at once."""
LOG_TAIL = 200
"""How many lines of a trainer's output are kept here."""
CURVE_SHOWN = 600
"""When a loss curve has more points than this, every second one is dropped."""


EDITS_TAIL = 8
"""How many proposals' edits are kept here; each holds a whole file twice."""
MEASURED_TAIL = 120
"""How many measurements of the machine are kept here: ten minutes, at one every five seconds."""


class SeatView(Struct):
    """What one seat (a place to train) shows: the training that runs there, or the last one that did."""

    n: int = 0
    """The experiment's number; 0 when nothing has trained on this seat yet."""
    training: int = 0
    """The training's number within its experiment."""
    phase: str = ""
    """What the trainer says that it does, such as `evaluating`; empty when the training has ended."""
    progress: ev.Progress | None = None
    """The newest progress line."""
    curve: list[ev.CurvePoint] = field(default_factory=list)
    """The loss curve so far, thinned."""
    log: list[str] = field(default_factory=list)
    """The newest lines that it printed."""
    place: str = ""
    """Name of the machine where it runs; empty until it is known."""

    def take(self, event: ev.PhaseChanged | ev.Progress | ev.LogLines) -> None:
        """Take in what the trainer on this seat printed."""
        match event:
            case ev.PhaseChanged(phase=phase):
                self.phase = phase
            case ev.Progress():
                self.progress = event
                if self.phase == "starting":  # a trainer that prints no `phase:` lines trains when it says so
                    self.phase = "training"
                if event.loss is not None and math.isfinite(event.loss):
                    self.curve.append(ev.CurvePoint(event.fraction, event.loss))
                    if len(self.curve) > CURVE_SHOWN:
                        self.curve[:] = self.curve[::2]
            case ev.LogLines(text=text):
                lines = text.splitlines()
                if self.progress is not None and "---" in lines:  # the summary follows: there is nothing more
                    self.phase = "done"
                self.log.extend(lines)
                del self.log[:-LOG_TAIL]


class LiveView(Struct):
    """What a screen shows besides the durable state."""

    preparing: str = ""
    """What the data preparation printed last; empty when none runs."""
    transcript: list[ev.AgentDelta] = field(default_factory=list)
    """The newest messages of the agents."""
    edits: list[ev.CandidateEdited] = field(default_factory=list)
    """The newest edit of each of the last few proposals, the one that was edited last at the end."""
    asked: list[ev.PermissionAsked] = field(default_factory=list)
    """Permissions that CLI agents wait for, the longest waiting first."""
    seats: dict[int, SeatView] = field(default_factory=dict)
    """One view for each seat on which something has trained, by the seat's number."""
    measured: list[ev.Telemetry] = field(default_factory=list)
    """The newest measurements of the machine, the oldest first."""

    @property
    def edited(self) -> ev.CandidateEdited | None:
        """The newest edit of all; None before the first one."""
        return self.edits[-1] if self.edits else None

    def edit_of(self, n: int) -> ev.CandidateEdited | None:
        """The newest edit of experiment `n`; None when it was not edited lately."""
        return next((edit for edit in self.edits if edit.n == n), None)

    @property
    def telemetry(self) -> ev.Telemetry | None:
        """The newest measurement of the machine; None before the first one."""
        return self.measured[-1] if self.measured else None

    def seat_of(self, n: int, training: int) -> SeatView | None:
        """The view of this training; None when its seat shows another one by now."""
        for view in self.seats.values():
            if view.n == n and view.training == training:
                return view
        return None

    def apply(self, event: ev.AnyEvent) -> None:
        """Take in a live event. Durable events are not handled here."""
        match event:
            case ev.Preparing(text=text):
                self.preparing = text
            case ev.AgentDelta():
                _append_delta(self.transcript, event)
            case ev.CandidateEdited():
                self.edits = [*(edit for edit in self.edits if edit.n != event.n), event][-EDITS_TAIL:]
            case ev.PermissionAsked():
                self.asked.append(event)
            case ev.PermissionAnswered(id=id):
                self.asked = [asked for asked in self.asked if asked.id != id]
            case ev.TrainingPlaced():
                if view := self.seat_of(event.n, event.training):
                    view.place = event.place
            case ev.PhaseChanged() | ev.Progress() | ev.LogLines():
                if view := self.seat_of(event.n, event.training):
                    view.take(event)
            case ev.Telemetry():
                self.measured.append(event)
                del self.measured[:-MEASURED_TAIL]
            case _:
                pass


def _append_delta(transcript: list[ev.AgentDelta], delta: ev.AgentDelta) -> None:
    """Append a piece of transcript, joined to its experiment's last one when both belong to one streamed
    message.

    So the bound of the transcript counts messages and not pieces of them, also where several agents talk at
    once.
    """
    newest = range(len(transcript) - 1, max(-1, len(transcript) - 1 - AT_ONCE), -1)
    at = next((i for i in newest if transcript[i].n == delta.n), None)
    last = transcript[at] if at is not None else None
    if at is not None and last and delta.id and (last.id, last.kind) == (delta.id, delta.kind):
        transcript[at] = ev.AgentDelta(
            last.n, last.kind, last.text + delta.text, last.id, last.tool or delta.tool, last.t
        )
    else:
        transcript.append(delta)
        del transcript[:-TRANSCRIPT_TAIL]
