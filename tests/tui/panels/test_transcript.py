"""The agent's transcript."""

from __future__ import annotations

from loop import events as ev
from loop.events import AgentDelta
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import training
from tui.panels.transcript import SPLIT, Piece


async def test_follow_stops_on_scrolling_up_and_comes_back(cockpit: Open) -> None:
    connection = training()
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1", "up", "up")
        await settle(pilot)
        before = app.main.transcript.scroll_offset.y
        for i in range(30):
            connection.push(ev.AgentDelta(8, "text", f"paragraph {i}", id=str(i)))
        await settle(pilot)
        assert app.main.transcript.scroll_offset.y == before
        await pilot.press("f")
        await settle(pilot)
        assert app.main.transcript.is_vertical_scroll_end


async def test_thoughts_and_tool_calls_open_with_enter(cockpit: Open) -> None:
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("1")
        assert "eps=1e-6" not in app.main.transcript.items[-1].body.plain
        await pilot.press("enter")
        assert "eps=1e-6" in app.main.transcript.items[-1].body.plain
        assert len(pilot.app.screen_stack) == 1


def test_a_long_stream_is_cut_at_paragraphs_and_nothing_is_lost() -> None:
    piece = Piece(AgentDelta(1, "text", "", id="a"))
    done: list[str] = []
    text = "".join(f"paragraph {i} " + "word " * 30 + "\n\n" for i in range(200))
    for start in range(0, len(text), 17):
        rest = piece.add(AgentDelta(1, "text", text[start : start + 17], id="a"))
        if rest:
            done.append(piece.delta.text)
            piece = Piece(rest)
    assert "\n\n".join([*done, piece.delta.text]) == text
    assert len(done) > 5
    assert all(len(part) <= SPLIT + 17 for part in done)
