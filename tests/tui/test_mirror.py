"""What is written instead of a paint shows the same on a terminal, in far fewer bytes."""

from __future__ import annotations

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.mirror import Mirror

COLUMNS, ROWS = 30, 6
COLOURS = [Color.parse(name) for name in ("#121519", "#f5b83d", "red", "bright_blue", "color(99)")]
STYLES = st.builds(
    Style,
    color=st.sampled_from([None, *COLOURS]),
    bgcolor=st.sampled_from([None, *COLOURS]),
    bold=st.sampled_from([None, True]),
    underline=st.sampled_from([None, True]),
    reverse=st.sampled_from([None, True]),
)
TEXTS = st.text(st.sampled_from("ab  ─⣿é日"), min_size=1, max_size=12)
PAINTS = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, 5), st.lists(st.tuples(TEXTS, STYLES), max_size=4)),
    min_size=1,
    max_size=5,
)


def paint(pieces: list[tuple[int, int, list[tuple[str, Style]]]]) -> str:
    """A paint as Textual writes it: a move, pieces with all their colours, and the cursor's place at last."""
    written = []
    for y, x, texts in pieces:
        strip = Strip([Segment(text, style) for text, style in texts]).crop(0, COLUMNS - x)
        written.append(f"\x1b[{y + 1};{x + 1}H" + "".join((s.style or Style()).render(s.text) for s in strip))
    return "".join(written) + "\x1b[1;1H"


def shown(screen: pyte.Screen) -> list[object]:
    """Each cell of a terminal; of a blank no foreground, which is not seen."""
    found: list[object] = []
    for y in range(ROWS):
        for x in range(COLUMNS):
            cell = screen.buffer[y][x]
            lines = cell.underscore or cell.reverse
            fg, bold = ("", False) if cell.data == " " and not lines else (cell.fg, cell.bold)
            found.append((cell.data, fg, cell.bg, bold, cell.underscore, cell.reverse))
    return [*found, (screen.cursor.y, screen.cursor.x)]


@settings(max_examples=60)
@given(st.lists(PAINTS, min_size=1, max_size=6))
def test_the_terminal_shows_the_same(paints: list[list[tuple[int, int, list[tuple[str, Style]]]]]) -> None:
    whole, thin, mirror = pyte.Screen(COLUMNS, ROWS), pyte.Screen(COLUMNS, ROWS), Mirror()
    streams = pyte.Stream(whole), pyte.Stream(thin)
    for pieces in paints:
        data = paint(pieces)
        streams[0].feed(data)
        streams[1].feed(mirror.thin(data))
        assert shown(thin) == shown(whole)


def line(text: str, style: str = "#ffffff on #121519") -> str:
    return paint([(0, 0, [(text, Style.parse(style))])])


def test_what_stands_there_is_not_written_again() -> None:
    mirror = Mirror()
    assert "loss 2.31" in mirror.thin(line("loss 2.31"))
    assert mirror.thin(line("loss 2.31")) == ""
    assert mirror.thin(line("loss 2.39")) == "\x1b[1;9H\x1b[38;2;255;255;255;48;2;18;21;25m9\x1b[m\x1b[1;1H"


def test_a_colour_that_goes_on_is_not_said_again() -> None:
    mirror = Mirror()
    pieces = [
        ("a", Style.parse("red on blue")),
        ("b", Style.parse("green on blue")),
        ("c", Style.parse("red on blue")),
    ]
    assert mirror.thin(paint([(0, 0, pieces)])) == "\x1b[1;1H\x1b[31;44ma\x1b[32mb\x1b[31mc\x1b[m\x1b[1;1H"


def test_the_foreground_of_a_blank_does_not_count() -> None:
    mirror = Mirror()
    mirror.thin(line("   ", "red on blue"))
    assert mirror.thin(line("   ", "green on blue")) == ""
    assert mirror.thin(line("   ", "underline green on blue")) != ""


@pytest.mark.parametrize("other", ["\x1b[?2026h", "\x1b[?25l", "\x07", "\x1b]52;c;aGk=\x07", "\x1b[5 q"])
def test_modes_and_the_clipboard_change_no_cell(other: str) -> None:
    mirror = Mirror()
    mirror.thin(line("abc"))
    assert mirror.thin(other) == other
    assert mirror.thin(line("abc")) == ""


@pytest.mark.parametrize("other", ["\x1b[2J", "words of another program", "\x1b[1;1Hab\x1b[2Kc\x1b[1;1H"])
def test_after_what_is_not_understood_all_is_written_again(other: str) -> None:
    mirror = Mirror()
    mirror.thin(line("abc"))
    assert mirror.thin(other) == other
    assert "abc" in mirror.thin(line("abc"))


@pytest.mark.parametrize("text", ["日本", "👩‍💻 x", "❤️", "e\u0301", "🇩🇪"])
def test_what_terminals_measure_differently_is_always_written(text: str) -> None:
    mirror = Mirror()
    assert text in mirror.thin(line(text))
    assert text in mirror.thin(line(text))


def test_a_forgotten_terminal_is_painted_whole() -> None:
    mirror = Mirror()
    mirror.thin(line("abc"))
    mirror.forget()
    assert "abc" in mirror.thin(line("abc"))


def test_behind_what_terminals_measure_differently_nothing_is_taken_for_granted() -> None:
    mirror = Mirror()
    pieces = [("❤️", Style()), ("abc", Style(bold=True)), ("d", Style(italic=True))]
    mirror.thin(paint([(0, 0, pieces)]))
    again = mirror.thin(paint([(0, 0, pieces)]))
    assert "\x1b[1;3H\x1b[1mabc" in again, "an absolute move, whatever the terminal made of the heart"
    assert "d" in again
