"""The cockpit's functions of data."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.events import AgentDelta, CurvePoint, Progress
from loop.state import Experiment
from tui import settings
from tui.diff import changed_words, counts, rows, side_by_side
from tui.filter import matches
from tui.markdown import markdown
from tui.panels.plot import best_so_far, ticks, window
from tui.panels.status import fit
from tui.panels.training import Meter, loss_at, standing
from tui.panels.transcript import SPLIT, Piece
from tui.text import LONGEST, clock, safe, short, spark

LINES = st.lists(st.sampled_from(["a", "b", "c = 1", "c = 2", ""]), max_size=12).map(
    lambda lines: "".join(line + "\n" for line in lines)
)


@given(LINES, LINES)
def test_a_diff_holds_exactly_both_files(before: str, after: str) -> None:
    found = rows(before, after, context=100)
    if before == after:
        assert found == []
    else:
        assert [r.text for r in found if r.kind in " -"] == before.splitlines()
        assert [r.text for r in found if r.kind in " +"] == after.splitlines()


@given(LINES, LINES)
def test_counts_agree_with_difflib(before: str, after: str) -> None:
    unified = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    added = sum(line.startswith("+") for line in unified)
    removed = sum(line.startswith("-") for line in unified)
    assert counts(rows(before, after)) == (added, removed)


@given(LINES, LINES)
def test_two_columns_hold_the_same_rows(before: str, after: str) -> None:
    found = rows(before, after)
    pairs = side_by_side(found)
    assert [r for r in found if r.kind == "-"] == [a for a, b in pairs if a and a is not b]
    assert [r for r in found if r.kind == "+"] == [b for a, b in pairs if b and a is not b]


def test_changed_words_are_marked() -> None:
    assert changed_words("WIDTH = 128", "WIDTH = 160") == (((8, 11),), ((8, 11),))
    assert changed_words("return x", "completely_other(1, 2)") == ((), ())


def test_nothing_a_terminal_obeys_survives() -> None:
    assert safe("\x1b[31mred\x07 \u202eback\u202c\tend\r\n") == "[31mred back    end\n"
    long = safe("x" * 1_000_000)
    assert len(long) < LONGEST + 60
    assert "998,000 more characters" in long


@given(st.text())
def test_safe_text_has_no_control_characters(text: str) -> None:
    assert not any(ord(c) < 32 and c != "\n" for c in safe(text))


def test_numbers() -> None:
    assert [clock(s) for s in (0, 59.6, 299, 3723, -4)] == ["0:00", "1:00", "4:59", "1:02:03", "0:00"]
    assert [short(n) for n in (7.0, 950, 12_345, 1_690_000)] == ["7", "950", "12.3k", "1.69M"]
    assert spark([3, 2, 1], 10) == "█▅▁"
    assert len(spark([float(i) for i in range(1000)], 20)) == 20


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", True),
        ("width", True),
        ("wdth", True),
        ("status:keep", True),
        ("status:crash", False),
        ("!status:crash", True),
        ("!width", False),
        ("commit:abc", True),
        ("n:12 width", True),
        ("n:13", False),
    ],
)
def test_filter(query: str, found: bool) -> None:
    e = Experiment(12, "parent", "keep", "abcdef0" + "0" * 33, "WIDTH 128 -> 160")
    assert matches(query, e) is found


def test_markdown_keeps_text_and_brackets() -> None:
    content = markdown(
        "# Head\n\nI *try* **this** `[x]`:\n\n- one\n- two\n\n```python\na = [1]\n```\n[red]not[/]"
    )
    assert content.plain == "Head\nI try this [x]:\n• one\n• two\n  a = [1]\n[red]not[/]"


def test_numbered_lists_count() -> None:
    assert markdown("3. a\n4. b").plain == "3. a\n4. b"


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


def test_the_countdown_goes_on_while_the_trainer_is_silent() -> None:
    meter = Meter()
    assert meter.remaining(300, 0) is None
    meter.take(Progress(fraction=0.5, remaining_s=150), 1000)
    assert meter.remaining(300, 1000) == 150
    assert meter.remaining(300, 1010) == 140
    meter.take(meter.progress, 1020)
    assert meter.remaining(300, 1200) == 0


def test_ahead_and_behind() -> None:
    reference = [CurvePoint(0.0, 4.0), CurvePoint(0.5, 3.0), CurvePoint(1.0, 2.0)]
    assert loss_at(reference, 0.25) == 3.5
    assert (loss_at(reference, -1), loss_at(reference, 2)) == (4.0, 2.0)
    assert standing([CurvePoint(0.25, 3.4)], reference)[0] == "0.100 ahead of the incumbent"
    assert standing([CurvePoint(0.25, 3.6)], reference)[0] == "0.100 behind the incumbent"
    assert standing([CurvePoint(0.25, 3.6)], []) == ("", "")


def test_the_plot() -> None:
    points = [(1, "keep", 2.0), (2, "discard", 2.1), (3, "keep", 1.9), (4, "discard", 2.0)]
    assert best_so_far(points) == [(1, 2.0), (3, 2.0), (3, 1.9), (4, 1.9)]
    low, high = window([1.0] * 19 + [9.0], "min")
    assert low < 1.0 < high < 2.0
    assert ticks(1, 3, 10) == [1, 2, 3]
    assert ticks(1, 100, 3) == [1, 50, 100]


def test_the_status_line_drops_what_matters_least() -> None:
    line = fit([(1, "run", ""), (9, "x" * 20, ""), (2, "best", "")], 20)
    assert line.plain == "run   best"


def test_settings_survive_and_nonsense_does_not_hurt(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    settings.save(settings.Settings(theme="cockpit-light", split=True), folder)
    assert settings.load(folder) == settings.Settings(theme="cockpit-light", split=True)
    (folder / "cockpit.json").write_text("{")
    assert settings.load(folder) == settings.Settings()
