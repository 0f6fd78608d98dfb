"""The help screen."""

from __future__ import annotations

from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, press
from tests.tui.recorded import night
from tui.actions import EVERY_ACTION
from tui.keys import Keys
from tui.screens.help import items


def test_every_key_is_in_the_help_screen() -> None:
    text = " ".join("\n".join(item.body.plain for item in items(Keys())).split())
    for action in EVERY_ACTION:
        assert action.help in text


def test_help(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press("question_mark"))
