"""What the main screen looks like in each state of a run that no other test has a picture of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot

from loop import events as ev
from loop.client import Connection
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, press, settle
from tests.tui.recorded import Recorded, Script, night, queue, training
from tui import link
from tui.app import Cockpit

pytestmark = pytest.mark.slow


def judging() -> Script:
    """The seventh experiment has trained, and its verdict is not there yet."""
    script = Script().night(6).propose(7).train(7).progress(7, 1.0)
    return script.add(ev.PhaseChanged(7, 1, "judging"), ev.TrainingFinished(7, 1, "finished", value=0.99))


def evaluating() -> Script:
    """The seventh experiment is measured."""
    return Script().night(6).propose(7).train(7).progress(7, 1.0).add(ev.PhaseChanged(7, 1, "evaluating"))


def again() -> Script:
    """An experiment trains a second time, and its neighbour was rejected."""
    script = Script().night(4).propose(5).add(ev.Rejected(5, "too slow")).propose(6).train(6).finish(6, 0.989)
    return script.add(ev.TrainingStarted(6, 2, "c", 1338, 300.0, why="asked for by hand")).progress(6, 0.2)


STATES: dict[str, Script | Recorded] = {
    "judging": judging(),
    "evaluating": evaluating(),
    "trains-again": again(),
    "pausing": night().add(ev.Paused("by hand")),
    "permission": night().add(ev.PermissionAsked(26, "26.1", "pip install [torch]", "execute")),
    "approval-queue": queue(),
    "asks": Script().night(2).add(ev.Steered("try a wider one")).propose(3),
    "first-proposal": Script().begin().add(ev.ExperimentStarted(1, "7f2a65c" + "0" * 33)),
}


@pytest.mark.parametrize("size", ["narrow", "usual"])
@pytest.mark.parametrize("state", STATES)
def test_state(cockpit: Open, snap_compare: Snap, state: str, size: str) -> None:
    assert snap_compare(cockpit(STATES[state]), terminal_size=SIZES[size], run_before=press())


@pytest.mark.parametrize(
    "keys", [["slash", *"keep", "enter"], ["2", "z"], ["m", "j", "m"], ["ctrl+p"]], ids=lambda k: k[0]
)
def test_after_keys(cockpit: Open, snap_compare: Snap, keys: list[str]) -> None:
    """A filter, one panel alone, marks, the palette."""
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press(*keys))


def test_the_engine_is_gone(cockpit: Open, snap_compare: Snap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "RETRY_S", 3600.0)
    connection = training()

    async def lose(pilot: Pilot[int]) -> None:
        await settle(pilot)
        connection.lose()
        await press()(pilot)

    assert snap_compare(cockpit(connection), terminal_size=SIZES["usual"], run_before=lose)


def test_connecting(tmp_path: Path, snap_compare: Snap) -> None:
    async def connect() -> Connection:
        await asyncio.Event().wait()
        return Recorded()

    app = Cockpit(connect, tmp_path, now=lambda: 0.0)
    assert snap_compare(app, terminal_size=SIZES["usual"])
