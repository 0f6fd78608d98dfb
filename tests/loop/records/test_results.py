"""results.tsv: five columns, atomically, beside other tools' rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.experiment import format_row
from loop.records import results

OTHERS = (
    "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
    "baseline\t0.997900\t44.0\tkeep\tthe first\n"
    '12e4567\t0.990000\t44.0\tkeep\ta lone " quote\n'
    "0000123\t0.000000\t0.0\tcrash\toom\n"
)


def test_rows_are_formatted_as_autoresearch_does() -> None:
    assert format_row("a" * 40, 0.9979, 44.04, "keep", "x\ty\nz") == "aaaaaaa\t0.997900\t44.0\tkeep\tx y z"
    assert format_row("b" * 40, None, 0, "crash", "") == "bbbbbbb\t0.000000\t0.0\tcrash\t"


def test_rows_of_other_tools_stay_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(OTHERS)
    results.append(path, "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    assert path.read_text() == OTHERS + "abc1234\t0.980000\t1.0\tkeep\tours\n"


def test_commits_that_look_like_numbers_stay_text_and_a_crash_has_no_value(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(OTHERS)
    frame = results.read(path)
    assert frame["commit"].to_list() == ["baseline", "12e4567", "0000123"]
    assert frame["val_bpb"].to_list() == [0.9979, 0.99, None]


def test_a_row_is_written_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    row = "abc1234\t0.980000\t1.0\tkeep\tthe same twice"
    assert results.append(path, row, copies=0)
    assert not results.append(path, row, copies=0)
    assert results.append(path, row, copies=1)
    assert results.lines(path) == [results.HEADER, row, row]


@pytest.mark.parametrize("text", ["", results.HEADER + "\n", OTHERS + "torn123\t0.9"])
def test_odd_files_are_read_without_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(text)
    assert results.read(path).columns == list(results.COLUMNS)
    assert "torn123" not in results.read(path)["commit"].to_list()


@given(st.text())
def test_any_description_is_one_row(tmp_path_factory: pytest.TempPathFactory, description: str) -> None:
    path = tmp_path_factory.mktemp("r") / "results.tsv"
    results.append(path, format_row("a" * 40, 0.5, 1.0, "keep", description), copies=0)
    assert results.read(path).height == 1
    assert results.read(path)["val_bpb"].to_list() == [0.5]
