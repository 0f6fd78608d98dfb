"""The help screen."""

from __future__ import annotations

from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, press, settle
from tests.tui.recorded import night
from tui.actions import EVERY_ACTION
from tui.keys import Keys
from tui.lines import Lines
from tui.screens.help import WHY, items


def test_every_key_is_in_the_help_screen() -> None:
    text = " ".join("\n".join(item.body.plain for item in items(Keys())).split())
    for action in EVERY_ACTION:
        assert action.help in text


async def test_what_is_too_long_for_a_row_goes_on_below_itself(cockpit: Open) -> None:
    async with cockpit(night()).run_test(size=SIZES["narrow"]) as pilot:
        await press("question_mark")(pilot)
        lines = pilot.app.screen.query_one("#help", Lines)
        lines.show([item for item in lines.items if any(text[:20] in item.body.plain for _, text in WHY)])
        await settle(pilot)
        rows = [lines.render_line(y).text.rstrip() for y in range(lines.size.height)]
        begins = [row for row in rows if row[2:3].strip()]
        assert len(begins) == len(WHY)
        assert all(not row or row in begins or row.startswith(" " * 19) for row in rows)


def test_help(cockpit: Open, snap_compare: Snap) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=press("question_mark"))
