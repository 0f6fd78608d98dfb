"""The results.tsv of other tools, as they really are and as they should not be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import UsageError
from loop.records.foreign_results import Row, parse, read

ORIGINAL = """\
commit\tval_bpb\tmemory_gb\tstatus\tdescription
a1b2c3d\t0.997900\t44.0\tkeep\tbaseline
b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04
c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU activation
d4e5f60\t0.000000\t0.0\tcrash\tdouble model width (OOM)
"""


def test_the_original() -> None:
    found = parse(ORIGINAL)
    assert found.metric == "val_bpb"
    assert not found.highest_is_best
    assert [row.status for row in found.rows] == ["keep", "keep", "discard", "crash"]
    assert found.rows[1] == Row(3, "b2c3d4e", 0.9932, 44.2, "keep", "increase LR to 0.04", {})
    assert found.rows[3].value is None


def test_without_a_header_it_has_the_original_s_columns() -> None:
    assert parse(ORIGINAL.split("\n", 1)[1]).rows[0].value == 0.9979


def test_a_variant_with_another_metric_and_no_memory() -> None:
    found = parse("commit\tval_rmse\tstatus\tdescription\nc2450ad\t343.88\tkeep\tbaseline\n")
    assert found.metric == "val_rmse"
    assert found.rows[0].memory_gb == 0.0


def test_a_variant_with_more_columns_other_words_and_windows_line_ends() -> None:
    text = (
        "Commit\taccuracy\tpeak_vram_mb\tstatus\ttok_sec\tcategory\tdescription\r\n"
        "baseline\t0.5\t2048\tBASELINE\t1000\tarch\tas it is\r\n"
        "b2c3d4e\t0.6\t1024\tKept\t1100\t\tmore \x1b[31mdepth\r\n"
        "b2c3d4f\t0.55\t1024\treverted\t900\topt\tless\r\n"
    )
    found = parse(text)
    assert found.highest_is_best is True
    assert (found.metric, [row.status for row in found.rows]) == ("accuracy", ["keep", "keep", "discard"])
    assert found.rows[0].commit == ""
    assert (found.rows[0].memory_gb, found.rows[0].more) == (2.0, {"tok_sec": 1000.0, "category": "arch"})
    assert (found.rows[1].description, found.rows[1].more) == ("more depth", {"tok_sec": 1100.0})


def test_what_stands_in_the_files_of_real_runs() -> None:
    """Statuses of every kind, no number, a zero for none, other words, further tables and notes below."""
    text = f"""{ORIGINAL}
seed-9b1192\t1.245404\t18.67\tDISCARD\tran at once
seed-edcd01\t\t\tDISCARD\tmerge failed, nothing was trained
e5f6071\tNA\tNA\tdiscard\tfailed its tests
f607182\t0.000000\t0.0\tdiscard\taborted at step 600
0718293\t1.2\t9\ttentative\ttied
1829304\t0.99\t9\tBEST (of 3)\tmore data
2930415\t0.995\t9\tdiscard
2026-08-04\twd_020\t1.861823\t156\t253911\t30.07\tWEIGHT_DECAY=0.2
=======================
columns: date, tag, val_bpb, status
2026-09-03, ra06, 3.078591, best
"""
    found = parse(text)
    assert [(row.commit, row.value, row.status) for row in found.rows[4:]] == [
        ("", 1.245404, "discard"), ("", None, "crash"), ("e5f6071", None, "crash"),
        ("f607182", None, "crash"), ("0718293", 1.2, "discard"), ("1829304", 0.99, "keep"),
        ("2930415", 0.995, "discard"),
    ]  # fmt: skip
    assert found.unknown == {"tentative": 1}
    assert found.left_out == [14, 15, 16, 17]


@pytest.mark.parametrize(
    ("header", "row", "metric"),
    [
        ("commit\tkind\tval_bpb\tstatus\thypothesis\tdescription", "abcd\tlr\t0.9\tkeep\th\td", "val_bpb"),
        ("commit\tcycle\tscore\timprovement\tstatus\tdescription", "abcd\ttick\t9\t4%\tkeep\td", "score"),
        ("run\tcommit\tval_psnr\tstatus\tdescription", "7\tabcd\t31.5\tkeep\td", "val_psnr"),
        ("val_bpb\tcommit\tstatus\tdescription\tseconds", "0.9\tabcd\tkeep\td\t300", "val_bpb"),
        ("commit\titer\tval_loss\tstatus\tdescription", "abcd\t1\t2.5\tkeep\td", "val_loss"),
        ("commit\tmemory_gb\tval_rmse\tstatus\thypothesis", "abcd\t4\t2.5\tkeep\td", "val_rmse"),
    ],
)
def test_the_metric_and_the_description_are_found_among_the_columns(
    header: str, row: str, metric: str
) -> None:
    found = parse(f"{header}\n{row}\n")
    assert (found.metric, found.rows[0].status, found.rows[0].description) == (metric, "keep", "d")
    assert found.rows[0].value in (0.9, 9, 31.5, 2.5)


def test_where_most_crashed_the_metric_is_still_the_one_of_the_others() -> None:
    crashes = "".join(f"abc{n}\t0\t\tcrash\tno\n" for n in range(5))
    found = parse(f"commit\tsteps\tval_loss\tstatus\tdescription\nabcd\t90\t2.5\tkeep\td\n{crashes}")
    assert (found.metric, found.rows[0].value) == ("val_loss", 2.5)


def test_a_zero_is_a_number_where_high_is_best() -> None:
    header = "commit\treward\tstatus\tdescription\n"
    found = parse(f"{header}abcd\t1\tkeep\ta\nabce\t2\tkeep\tb\nabcf\t0\tdiscard\tc\n")
    assert (found.rows[2].status, found.rows[2].value) == ("discard", 0.0)
    found = parse(f"{header}abcd\t2\tkeep\ta\nabce\t1\tkeep\tb\nabcf\t0.0\ttentative\tc\n")
    assert (found.rows[2].status, found.unknown) == ("crash", {})


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_row(odd: str) -> None:
    rows = parse(
        f"{ORIGINAL}e5f6071\t0.99\t1\tkeep\tone{odd}thing\r\nf607182\t1.0\t1\tdiscard\tlast\r\n"
    ).rows
    assert [(row.line, row.commit) for row in rows[4:]] == [(6, "e5f6071"), (7, "f607182")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " is empty: there is nothing to import"),
        ("\n\n", " is empty: there is nothing to import"),
        (ORIGINAL.split("\n")[0], " has a header and no rows: there is nothing to import"),
        (ORIGINAL.replace("\t", ","), ", line 1: columns must have tabs between them, and here are commas"),
        (
            ORIGINAL.replace("\n", "\ta" * 1_000_000 + "\n", 1),
            ", line 1: there are more than 200 columns: leave some out",
        ),
        (ORIGINAL + "x\n" * 100_000, " has more than 100,000 lines: import a part of it"),
        ("hello", ", line 1: columns must have tabs between them, and here are no tabs"),
        ("commit\tval_bpb\tstatus\nabcd\t1\tkeep", ", line 1: there is no column description"),
        ("commit\tval_bpb\tdescription\nabcd\t1\tx", ", line 1: there is no column status"),
        (
            "kind\tcommit\tstatus\tdescription\nlr\tabcd\tkeep\tx",
            ", line 1: no column has numbers, so there is nothing to judge by",
        ),
        (
            "commit\tval_bpb\tstatus\tdescription\n\nabcd\tn/a\tmaybe\tx",
            ", line 3: val_bpb 'n/a' is not a number, and status 'maybe' is not keep, discard or crash",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value) == said


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv is not there: name a results\.tsv"):
        read(tmp_path / "none.tsv")
    os.mkfifo(tmp_path / "pipe.tsv")
    for path in (tmp_path, tmp_path / "pipe.tsv"):
        with pytest.raises(UsageError, match="is no plain file"):
            read(path)
    (tmp_path / "bad.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"bad\.tsv, line 1: columns"):
        read(tmp_path / "bad.tsv")


CELLS = st.text(alphabet="commit status\t,\n0.9keepcrash\x00é-", max_size=60)


@given(CELLS)
def test_any_text_is_a_table_or_refused(text: str) -> None:
    for whole in (text, f"{ORIGINAL}{text}"):
        with contextlib.suppress(UsageError):
            assert parse(whole).rows
