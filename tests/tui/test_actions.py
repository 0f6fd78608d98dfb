"""The table of keys."""

from __future__ import annotations

import pytest
from textual.dom import DOMNode
from textual.widgets import Footer

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Script, training, waiting
from tui.actions import ACTIONS, EVERY_ACTION, IN_COMPARISON, IN_EXPERIMENT, ON_EVERY_SCREEN, Action
from tui.app import Cockpit
from tui.screens.experiment import ExperimentScreen
from tui.screens.main import MainScreen


async def test_the_footer_offers_only_keys_that_work(cockpit: Open) -> None:
    def offered(app: Cockpit) -> set[str]:
        assert app.screen.query_one(Footer)
        return {b.binding.action for b in app.screen.active_bindings.values() if b.enabled and b.binding.show}

    async with (app := cockpit(training())).run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert "stop_training" in offered(app)
        assert "approve" not in offered(app)
    async with (app := cockpit(waiting())).run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert {"approve", "reject", "edit"} <= offered(app)
        assert "stop_training" not in offered(app)


def test_every_key_has_a_method() -> None:
    for screen, actions in ((MainScreen, ACTIONS), (ExperimentScreen, (*IN_EXPERIMENT, *ON_EVERY_SCREEN))):
        for action in actions:
            name = action.name.partition("(")[0]
            target: type[DOMNode] = Cockpit if name.startswith("app.") else screen
            assert callable(getattr(target, f"action_{name.removeprefix('app.')}")), action


@pytest.mark.parametrize("actions", [ACTIONS, IN_EXPERIMENT, IN_COMPARISON])
def test_a_key_does_one_thing_on_a_screen(actions: tuple[Action, ...]) -> None:
    keys = [key for action in actions for key in action.key.split(",")]
    assert len(keys) == len(set(keys))


def test_actions_that_share_a_name_in_the_settings_share_their_keys() -> None:
    """Else a wish for one of them would change another."""
    keys: dict[str, set[str]] = {}
    for action in EVERY_ACTION:
        keys.setdefault(action.id, set()).add(action.key)
    assert {id: found for id, found in keys.items() if len(found) > 1} == {}
    assert all(id.isidentifier() for id in keys)


def test_a_stopped_engine_takes_no_command() -> None:
    state = Script().night(2).add(ev.EngineStopped("stopped by hand")).state
    offered = {action.name for action in ON_EVERY_SCREEN if action.available(state)}
    assert offered == {"theme", "help"}
