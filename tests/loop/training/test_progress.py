"""Trainer output: autoresearch's own lines, ours, and what nobody should have printed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.text import clean
from loop.training import progress

LINE = (
    "step 00123 (41.0%) | loss: 2.345678 | lrm: 1.00 | dt: 310ms | tok/sec: 1,690,000 | mfu: 39.8% "
    "| epoch: 1 | remaining: 177s"
)


def test_every_field_of_the_contract_is_understood() -> None:
    found = progress.parse(LINE)
    assert found is not None
    assert (found.step, found.fraction, found.loss, found.lrm) == (123, 0.41, 2.345678, 1.0)
    assert (found.dt_ms, found.tokens_per_s, found.mfu_percent) == (310, 1_690_000, 39.8)
    assert (found.epoch, found.remaining_s, found.extra) == (1, 177, {})


def test_unknown_fields_are_kept_and_missing_ones_tolerated() -> None:
    found = progress.parse("step 7 | loss: 1.5 | grad: 0.25 | dt: 1.5s")
    assert found is not None
    assert (found.fraction, found.extra, found.dt_ms, found.lrm) == (0.0, {"grad": "0.25"}, 1500, None)


@pytest.mark.parametrize("line", ["", "step", "stepping | loss: 1", "loss: 1.0", "step 5", "phase: training"])
def test_other_lines_are_not_progress(line: str) -> None:
    assert progress.parse(line) is None


def test_a_diverged_loss_is_not_a_number() -> None:
    found = progress.parse("step 5 (1.0%) | loss: nan")
    assert found is not None
    assert found.loss is not None
    assert math.isnan(found.loss)


def test_the_summary_is_what_follows_the_last_line_of_dashes() -> None:
    end = "\x1b[1m---\x1b[0m\nval_bpb:     0.997900\nnum_steps: 953\nwords: a b\n"
    log = "val_bpb: 0.1\n---\nval_bpb: 0.2\n" + end
    assert progress.parse_summary(log) == {"val_bpb": 0.9979, "num_steps": 953.0, "words": "a b"}
    assert progress.parse_summary("val_bpb: 0.1\n") == {}
    assert progress.parse_summary("---\ndepth: 2\nphase: evaluating\n") == {"depth": 2.0}


@pytest.mark.parametrize(("text", "value"), [("nan", None), ("inf", None), ("-inf", None), ("0.5", 0.5)])
def test_only_a_finite_metric_counts(text: str, value: float | None) -> None:
    assert progress.metric(progress.parse_summary(f"---\nval_bpb: {text}\n"), "val_bpb") == value


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;aGk=\x1b\\x", "x"),
        ("a\u202eb\u200bc", "abc"),
        ("1\r2\r\n3\tx", "1\n2\n3\tx"),
        ("\x9b31mx", "31mx"),
        ("日本 é 🙂", "日本 é 🙂"),
    ],
)
def test_nothing_that_moves_a_cursor_gets_through(dirty: str, plain: str) -> None:
    assert clean(dirty) == plain


@given(st.text())
def test_cleaned_text_has_no_control_characters_and_stays_clean(text: str) -> None:
    cleaned = clean(text)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in cleaned)
    assert "\x1b" not in cleaned
    assert "\x7f" not in cleaned
    assert clean(cleaned) == cleaned


@given(st.text())
def test_no_line_makes_the_parser_fail(text: str) -> None:
    progress.parse(text)
    progress.parse("step 1 |" + text)
    progress.parse_phase(text)
    progress.parse_summary("---\n" + text)
