"""The footer at each width: whole keys, and which of them go first."""

from __future__ import annotations

import pytest
from textual.widgets._footer import FooterKey

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import settle
from tests.tui.recorded import Recorded, night
from tui.actions import ACTIONS
from tui.app import Cockpit
from tui.panels.footer import columns, fitting

KEYS = [
    FooterKey("space", "space", "Pause", "pause"),
    FooterKey("a", "a", "Approve", "approve"),
    FooterKey("i", "i", "Steer", "steer"),
    FooterKey("enter", "enter", "Open", "open"),
    FooterKey("q", "q", "Detach", "app.quit"),
]
RANKS = {action.name: action.footer for action in ACTIONS}


def labels(app: Cockpit) -> list[str]:
    return [key.description for key in app.screen.query(FooterKey)]


@pytest.mark.parametrize(
    ("width", "left"),
    [
        (54, "Pause Approve Steer Open Detach"),
        (53, "Pause Approve Steer Detach"),
        (42, "Pause Approve Steer Detach"),
        (41, "Pause Approve Detach"),
        (32, "Approve Detach"),
        (5, "Approve"),
    ],
)
def test_the_least_important_key_goes_first_and_whole(width: int, left: str) -> None:
    found = fitting(KEYS, width, RANKS)
    assert " ".join(key.description for key in found) == left
    assert sum(map(columns, found)) <= width + 1 or len(found) == 1


@pytest.mark.parametrize(
    "keys", [["3"], ["3", "enter"], ["3", "c"]], ids=["main", "experiment", "comparison"]
)
async def test_no_key_is_cut_and_help_is_there_when_all_happens_at_once(
    cockpit: Open, keys: list[str]
) -> None:
    connection = Recorded(night().add(ev.PermissionAsked(26, "1", "ls", "execute")).records)
    app = cockpit(connection)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press(*keys)
        await settle(pilot)
        assert all(
            key.region.right <= 81 and key.region.width == columns(key) for key in app.screen.query(FooterKey)
        )
        assert {"Approve", "Help"} <= set(labels(app))
        narrow = labels(app)
        await pilot.resize_terminal(200, 50)
        await settle(pilot)
        assert len(labels(app)) > len(narrow)
        assert {"Pause", "Steer", "Approve", "End training"} <= set(labels(app))


@pytest.mark.parametrize(
    ("keys", "left"),
    [(["enter"], "Back Prev Next"), (["c"], "Back Figures Curves")],
    ids=["experiment", "comparison"],
)
async def test_the_keys_of_one_screen_do_not_change_what_another_one_leaves_out(
    cockpit: Open, keys: list[str], left: str
) -> None:
    app = cockpit(night())
    async with app.run_test(size=(30, 24)) as pilot:
        await settle(pilot)
        await pilot.press("3", *keys)
        await settle(pilot)
        assert " ".join(labels(app)) == left
