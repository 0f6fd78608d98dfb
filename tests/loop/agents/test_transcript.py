"""What an agent says reaches the transcript at once, piece by piece."""

from __future__ import annotations

from loop.agents.transcript import Transcript, cost_line
from loop.events import Usage
from tests.loop.agents.world import Heard


def test_pieces_with_one_id_make_one_message() -> None:
    heard = Heard()
    transcript = Transcript(7, heard)
    id = transcript.new()
    for piece in ("I ", "look"):
        transcript.say("text", piece, id)
    transcript.say("text", "again")
    assert heard.texts("text") == ["I look", "again"]
    assert {delta.n for delta in heard.deltas} == {7}
    assert [delta.id == id for delta in heard.deltas] == [True, True, False]


def test_no_two_messages_have_the_same_id() -> None:
    transcript = Transcript(1, Heard())
    assert len({transcript.new() for _ in range(100)}) == 100


def test_control_characters_are_left_out_and_nothing_is_no_piece() -> None:
    heard = Heard()
    transcript = Transcript(1, heard)
    transcript.say("tool", "\x1b[31mrm\x1b[0m", tool="view")
    transcript.say("text", "\x1b[2J")
    transcript.say("text", "")
    assert [(d.kind, d.text, d.tool) for d in heard.deltas] == [("tool", "rm", "view")]


def test_the_cost_is_told_in_one_line() -> None:
    usage = Usage(12_000, 9_000, 800, 300, 0.0421, 61.4)
    assert cost_line(usage, "m") == "12,000 tokens in (75% cached), 800 out (300 reasoning), $0.0421, 61 s"
    assert cost_line(Usage(), "m") == "0 tokens in (0% cached), 0 out, no price known for m, 0 s"
