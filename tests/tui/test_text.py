"""Numbers and foreign text as the screen shows them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loop.state import Experiment
from tests.tui.recorded import Script
from tui.text import LONGEST, clock, gain, metric, plural, safe, short, signed, spark, title


def test_nothing_a_terminal_obeys_survives() -> None:
    assert safe("\x1b[31mred\x07 \u202eback\u202c\tend\r\n") == "[31mred back    end\n"
    long = safe("x" * 1_000_000)
    assert len(long) < LONGEST + 60
    assert "998,000 more characters" in long


def test_neither_stacked_marks_nor_fillers_spread_over_the_screen() -> None:
    assert safe("e" + "\u0301" * 900 + "\u3164" * 900 + "!") == "e" + "\u0301" * 4 + "!"


@given(st.text())
def test_safe_text_has_no_control_characters(text: str) -> None:
    assert not any(ord(c) < 32 and c != "\n" for c in safe(text))


def test_numbers() -> None:
    assert [clock(s) for s in (0, 59.6, 299, 3723, -4)] == ["0:00", "1:00", "4:59", "1:02:03", "0:00"]
    assert [short(n) for n in (7.0, 950, 12_345, 1_690_000)] == ["7", "950", "12.3k", "1.69M"]
    assert spark([3, 2, 1], 10) == "█▅▁"
    assert len(spark([float(i) for i in range(1000)], 20)) == 20


def test_words_for_values_that_may_be_missing() -> None:
    assert (metric(None), metric(0.99789)) == ("–", "0.9979")
    assert (signed(None), signed(0.004), signed(-0.004)) == ("", "+0.0040", "-0.0040")
    assert (plural(1, "training"), plural(2, "training")) == ("1 training", "2 trainings")
    assert title(Experiment(1, "parent")) == "thinking …"
    assert title(Experiment(1, "parent", description="wider\x07")) == "wider"


def test_the_gain_is_the_share_of_the_baseline() -> None:
    script = Script().begin().propose(1).train(1).finish(1, 1.0)
    assert gain(script.state) == ""
    script.propose(2).train(2).finish(2, 0.95)
    assert gain(script.state) == "-5.00%"
