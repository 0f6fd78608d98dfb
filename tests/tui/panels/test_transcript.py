"""The agent's transcript."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.events import AgentDelta
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, WIDE, press, settle
from tests.tui.recorded import Recorded, team, training
from tui.app import Cockpit
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


def words(app: Cockpit) -> str:
    return "\n".join(item.body.plain for item in app.main.transcript.items)


def titles(app: Cockpit) -> tuple[str, str]:
    return str(app.main.transcript.border_title), str(app.main.diff.border_title).split(" vs ")[0]


async def test_agents_that_talk_at_once_are_shown_together_or_one_at_a_time(cockpit: Open) -> None:
    connection = Recorded(team().records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert titles(app) == ("Agents · #6 claude, #7 gpt", "train.py  candidate 7")
        assert "── experiment 6 · claude ──" in words(app)
        assert "── experiment 7 · gpt ──" in words(app)
        await pilot.press("p")
        await settle(pilot)
        assert titles(app) == ("Agent · #6 claude   (p goes on)", "train.py  candidate 6")
        assert "about 6" in words(app)
        assert "about 7" not in words(app)
        connection.push(
            AgentDelta(6, "text", "Six goes on.", id="x"), AgentDelta(7, "text", "Seven too.", id="y")
        )
        connection.push(ev.CandidateEdited(7, "nanogpt/train.py", "a", "b"))
        await settle(pilot)
        assert words(app).endswith("Six goes on.")
        assert titles(app)[1] == "train.py  candidate 6"
        await pilot.press("p")
        await settle(pilot)
        assert titles(app) == ("Agent · #7 gpt   (p goes on)", "train.py  candidate 7")
        assert words(app).endswith("Seven too.")
        await pilot.press("p")
        await settle(pilot)
        assert titles(app)[0] == "Agents · #6 claude, #7 gpt"
        assert "Six goes on." in words(app)


async def test_a_conversation_that_ends_stays_on_the_screen_and_says_so(cockpit: Open) -> None:
    connection = Recorded(team().records)
    app = cockpit(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("p")
        connection.push(ev.Rejected(6, "no"))
        await settle(pilot)
        assert titles(app)[0] == "Agent · #6 claude has ended   (p goes on)"
        await pilot.press("p")
        await settle(pilot)
        assert titles(app)[0] == "Agent"


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        ("usual", ["p"]),
        pytest.param("narrow", ["1"], marks=pytest.mark.slow),
        pytest.param("large", [], marks=pytest.mark.slow),
    ],
)
def test_two_agents(cockpit: Open, snap_compare: Snap, size: str, keys: list[str]) -> None:
    assert snap_compare(cockpit(team()), terminal_size=SIZES[size], run_before=press(*keys))
