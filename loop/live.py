"""What only matters while it happens: streams, and the tail of them that a late client gets."""

from __future__ import annotations

import math

from msgspec import Struct, field

from loop import events as ev

TRANSCRIPT_TAIL = 400
"""Pieces of transcript a late client gets at once; the whole is in the experiment's files."""
LOG_TAIL = 200
"""Lines of trainer output kept in the state."""
CURVE_POINTS = 600
"""Points of the live loss curve before it is thinned by half."""


class LiveView(Struct):
    """What only matters while it happens."""

    preparing: str = ""
    transcript: list[ev.AgentDelta] = field(default_factory=list)
    edited: ev.CandidateEdited | None = None
    asked: list[ev.PermissionAsked] = field(default_factory=list)
    """What a CLI agent asks leave for, the longest waiting first."""
    phase: str = ""
    progress: ev.Progress | None = None
    curve: list[ev.CurvePoint] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    telemetry: ev.Telemetry | None = None

    def apply(self, event: ev.AnyEvent) -> None:
        """Take in a live event; durable ones are none of our business."""
        match event:
            case ev.Preparing(text=text):
                self.preparing = text
            case ev.AgentDelta():
                _append_delta(self.transcript, event)
            case ev.CandidateEdited():
                self.edited = event
            case ev.PermissionAsked():
                self.asked.append(event)
            case ev.PermissionAnswered(id=id):
                self.asked = [asked for asked in self.asked if asked.id != id]
            case ev.PhaseChanged(phase=phase):
                self.phase = phase
            case ev.Progress():
                self.progress = event
                if event.loss is not None and math.isfinite(event.loss):
                    self.curve.append(ev.CurvePoint(event.fraction, event.loss))
                    if len(self.curve) > CURVE_POINTS:
                        self.curve[:] = self.curve[::2]
            case ev.LogLines(text=text):
                self.log.extend(text.splitlines())
                del self.log[:-LOG_TAIL]
            case ev.Telemetry():
                self.telemetry = event
            case _:
                pass


def _append_delta(transcript: list[ev.AgentDelta], delta: ev.AgentDelta) -> None:
    """Append, joining streamed pieces of one message so that the tail holds messages, not tokens."""
    last = transcript[-1] if transcript else None
    if last and delta.id and (last.n, last.id, last.kind) == (delta.n, delta.id, delta.kind):
        transcript[-1] = ev.AgentDelta(
            last.n, last.kind, last.text + delta.text, last.id, last.tool or delta.tool, last.t
        )
    else:
        transcript.append(delta)
        del transcript[:-TRANSCRIPT_TAIL]
