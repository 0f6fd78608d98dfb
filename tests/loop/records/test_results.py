"""results.tsv: five columns, atomically, beside other tools' rows."""

from __future__ import annotations

import os
import stat
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


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("baseline\t0.997900\t44.0\tkeep\tthe first", ("baseline", 0.9979, 44.0, "keep", "the first")),
        ("12e4567\t0.99\t44\tdiscard\t", ("12e4567", 0.99, 44.0, "discard", "")),
        ('0000123\t0.99\t1.0\tkeep\ta lone " quote', ("0000123", 0.99, 1.0, "keep", 'a lone " quote')),
        ("a1b2c3d\t0.000000\t0.0\tcrash\toom", ("a1b2c3d", None, 0.0, "crash", "oom")),
        ("a1b2c3d\t0.000000\t9.0\tdiscard\tstopped", ("a1b2c3d", None, 9.0, "discard", "stopped")),
        ("a1b2c3d\t0.000000\t9.0\tkeep\tall is known", ("a1b2c3d", 0.0, 9.0, "keep", "all is known")),
        ("a1b2c3d\tnan\tmuch\tdiscard\tidea", ("a1b2c3d", None, None, "discard", "idea")),
        ("a1b2c3d\tinf\t-inf\tkeep\tidea", ("a1b2c3d", None, None, "keep", "idea")),
        ("a1b2c3d\t0.9\t1.0\tkeep\tidea\tof\tmore", ("a1b2c3d", 0.9, 1.0, "keep", "idea")),
        (
            "a1b2c3d\t0.9\t1.0\tkeep\tby Windows\r",
            ("a1b2c3d", 0.9, 1.0, "keep", "by Windows"),
        ),
        (results.HEADER, None),
        ("", None),
        ("torn123\t0.9", None),
        ("a1b2c3d\t0.9\t1.0\tkee", None),
        ("a1b2c3d\t0.9\t1.0\tmaybe\tidea", None),
    ],
)
def test_a_line_is_a_row_or_nothing(line: str, row: tuple[object, ...] | None) -> None:
    assert results.parse(line) == row


def test_bytes_that_are_no_text_are_kept_in_the_file_and_replaced_in_the_table(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    odd = b"a1b2c3d\t0.900000\t1.0\tkeep\tcaf\xe9\n"
    path.write_bytes(results.HEADER.encode() + b"\n" + odd)
    results.append(path, "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    assert odd in path.read_bytes()
    assert results.read(path)["description"].to_list() == ["caf\ufffd", "ours"]


def test_a_changed_verdict_changes_the_last_row_like_it(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    row, other = "abc1234\t0.980000\t1.0\tkeep\tours", "abc1234\t0.980000\t1.0\tdiscard\tours"
    path.write_text(f"{results.HEADER}\n{row}\n{row}\n")
    assert results.change(path, row, other, copies=1) == 0
    assert results.lines(path) == [results.HEADER, row, other]
    assert results.change(path, "not there", other, copies=0) == 0


def test_a_change_that_is_made_again_leaves_equal_rows_of_another_run_alone(tmp_path: Path) -> None:
    """The writer may be killed after it has replaced the file and before that is journaled."""
    path = tmp_path / "results.tsv"
    row, other = "abc1234\t0.980000\t1.0\tkeep\tbaseline", "abc1234\t0.990000\t1.0\tkeep\tbaseline"
    path.write_text(f"{results.HEADER}\n{row}\n{row}\n{other}\n")  # one `row` and `other` are another run's
    for _ in range(3):
        assert results.change(path, row, other, copies=1) == 1
        assert results.lines(path)[1:] == [row, other, other]


def test_a_file_behind_a_link_is_changed_where_it_lies(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "results.tsv").write_text(OTHERS)
    (tmp_path / "results.tsv").symlink_to(kept / "results.tsv")
    results.append(tmp_path / "results.tsv", "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    assert (tmp_path / "results.tsv").is_symlink()
    assert (kept / "results.tsv").read_text().endswith("ours\n")
    assert [path.name for path in kept.iterdir()] == ["results.tsv"]


def test_a_file_that_leads_out_of_the_repository_is_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "mine").write_text(OTHERS)
    path = tmp_path / "repository/results.tsv"
    path.symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match=r"leads to no \.tsv file"):
        results.lines(path)
    with pytest.raises(OSError, match=r"leads to no \.tsv file"):
        results.append(path, "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    assert (tmp_path / "mine").read_text() == OTHERS


@pytest.mark.parametrize("victim", ["train.py", ".git/config", ".git/hooks/post-commit"])
def test_a_table_is_written_to_no_other_file_of_the_repository(repository: Path, victim: str) -> None:
    file = repository / victim
    before = file.read_bytes() if file.exists() else None
    (repository / "results.tsv").symlink_to(victim)
    with pytest.raises(OSError, match=r"leads to no \.tsv file"):
        results.append(repository / "results.tsv", "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    assert (file.read_bytes() if file.exists() else None) == before


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.tsv")
    with pytest.raises(OSError, match="no plain file"):
        results.append(tmp_path / "results.tsv", "row", copies=0)


def test_the_users_mode_of_the_file_stays_and_nobody_else_can_lock_it(tmp_path: Path) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(OTHERS)
    path.chmod(0o640)
    results.append(path, "abc1234\t0.980000\t1.0\tkeep\tours", copies=0)
    lock = tmp_path / ".autoresearch/results.lock"
    modes = [stat.S_IMODE(found.stat().st_mode) for found in (path, lock, lock.parent)]
    assert modes == [0o640, 0o600, 0o700]


def test_the_table_has_the_types_of_its_columns_even_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "full").write_text(OTHERS)
    assert results.read(tmp_path / "none").schema == results.read(tmp_path / "full").schema
    assert results.read(tmp_path / "none").height == 0


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


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".autoresearch").mkdir()
    os.mkfifo(tmp_path / ".autoresearch/results.lock")
    with pytest.raises(OSError, match="results"):
        results.append(tmp_path / "results.tsv", "a row", 0)


ROWS = st.lists(st.text("ab.*\t\r\u2028 ", max_size=3), max_size=8)


@given(ROWS, st.text("ab.*\t\r\u2028 ", min_size=1, max_size=3))
def test_rows_are_counted_as_whole_lines(rows: list[str], row: str) -> None:
    assert results.count("\n".join(rows) + "\n", row) == rows.count(row)
    assert results.count("\n".join(rows), row) == rows.count(row)
    assert results.count(None, row) == 0
