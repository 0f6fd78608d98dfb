"""Hostile text in every field of every event, on every screen: none of it steers the terminal."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from loop import events as ev
from loop.state import Experiment
from tests.hostile.texts import TOGETHER, longest_stack, poisoned, unsafe
from tests.tui.conftest import Open
from tests.tui.pilot import settle
from tests.tui.recorded import Recorded, Script
from tui.app import Cockpit

WALK = (
    (), ("2",), ("d",), ("3",), ("4",), ("z",), ("z",), ("l",), ("escape",), ("question_mark",), ("escape",),
    ("slash",), ("escape",), ("i",), ("escape",), ("r",), ("escape",), ("ctrl+p",), ("escape",),
    ("3", "down", "enter"),
    ("2",), ("3",), ("enter",), ("4",), ("5",), ("left_square_bracket",), ("K",), ("escape",), ("y",), ("Y",),
    ("escape",), ("Q",), ("escape",),
)  # fmt: skip
"""Keys that lead through every screen, panel and dialog."""


class Hostile(Recorded):
    """A recording whose engine answers with hostile text too."""

    text = ""

    async def experiment(self, n: int) -> ev.ExperimentDetail:
        found = await super().experiment(n)
        deltas = [ev.AgentDelta(n, kind, self.text, tool=self.text) for kind in KINDS]
        after = "\n".join(["x = 1", self.text, "y = '" + self.text + "'"])
        return ev.ExperimentDetail(n, self.text or "p", self.text, after, self.text, deltas, found.curve)

    async def others(self) -> list[Experiment]:
        self.rows = [f"{self.text[:9]}\t1.0\t1.0\tkeep\t{self.text}".replace("\n", "")]
        return await super().others()

    async def send(self, command: ev.AnyCommand) -> str:
        return self.text


KINDS: tuple[ev.DeltaKind, ...] = ("text", "thinking", "tool", "result", "retry", "human", "note", "error")


def recording(text: str) -> Hostile:
    """Four experiments, the last one waits, a CLI agent asks, and every free text in it is `text`."""
    script = Script().night(3).add(ev.ModeSet(True)).propose(4).train(2).progress(2, 0.3).propose(5)
    script.add(
        ev.ApprovalRequested(5),
        ev.PermissionAsked(5, "1", "t", "k", ["p"]),
        ev.CandidateEdited(5, "train.py", "a", "b"),
        ev.Progress(2, 1, 3, 0.4, 2.0, extra={"k": "v"}),
        ev.PhaseChanged(2, 1, "evaluating"),
        *(ev.AgentDelta(5, kind, "x", id=kind, tool="t") for kind in KINDS),
    )
    made = Hostile([ev.Record(r.seq, r.t, poisoned(r.event, text)) for r in script.records])
    made.state.metric = made.state.tag = made.state.repository = text  # as a stranger's journal may hold it
    made.text = text
    return made


def on_screen(pilot: Pilot[int]) -> str:
    """The text of all cells that would be written to the terminal, line by line."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def actions(pilot: Pilot[int]) -> set[str]:
    """The actions that a click on some cell would start."""
    found = set()
    for strip in pilot.app.screen._compositor.render_strips():
        for segment in strip:
            meta = segment.style.meta if segment.style else {}
            found |= {str(value) for key, value in meta.items() if key.startswith("@")}
    return found


WIDE, NARROW = (120, 40), (80, 24)


@pytest.mark.parametrize(
    ("name", "size"), [("everything", WIDE), ("everything", NARROW), ("lines", WIDE), ("unclosed", NARROW)]
)
async def test_no_text_steers_the_terminal_or_the_cockpit(
    cockpit: Open, name: str, size: tuple[int, int]
) -> None:
    made = recording(TOGETHER[name])
    app = cockpit(made)
    assert isinstance(app, Cockpit)
    notices = [ev.Notice(level, TOGETHER[name]) for level in ("info", "warning", "error")]
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        made.push(*notices, ev.Judged(5, "crash", "c" * 40, None, 0.0, TOGETHER[name]))
        for keys in WALK:
            await pilot.press(*keys)
            await settle(pilot)
            shown = on_screen(pilot)
            assert unsafe(shown) == [], (keys, [line for line in shown.split("\n") if unsafe(line)])
            assert longest_stack(shown) <= 5, keys
            assert not any("quit" in action or "evil" in action for action in actions(pilot)), keys
        assert app.is_running
