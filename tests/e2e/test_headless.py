"""The real command, from a shell, without a terminal."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from loop.paths import RunPaths
from loop.records import journal, results
from loop.state import fold
from tests.conftest import git

COMMAND = [str(Path(sys.executable).with_name("autoresearch-tui"))]


def run(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=root,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def headless(root: Path, count: int, tag: str = "demo") -> subprocess.CompletedProcess[str]:
    return run(
        root, "run", "--headless", "--agent", "search", "--tag", tag, "--budget", "0.3", "--max-experiments",
        str(count),
    )  # fmt: skip


def left(root: Path) -> list[psutil.Process]:
    """Processes that still work below `root`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd().startswith(str(root)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_run_and_its_continuation_leave_rows_refs_and_an_untouched_checkout(repository: Path) -> None:
    before = git(repository, "rev-parse", "HEAD"), (repository / ".git/index").read_bytes()
    done = headless(repository, 4)
    assert (done.returncode, done.stderr) == (0, "")
    check(repository, 4)
    lines = [line[9:] for line in done.stdout.splitlines()]
    assert lines[0].startswith("run demo from ")
    assert lines[-1] == "engine stopped: limit reached: 4 experiments"
    assert sum(re.match(r"#\d+ (keep|discard) \d+\.\d{6}: ", line) is not None for line in lines) == 4

    first = (repository / "results.tsv").read_text()
    assert headless(repository, 6).returncode == 0
    check(repository, 6)
    assert (repository / "results.tsv").read_text().startswith(first)
    again = headless(repository, 6)
    assert again.returncode == 0
    assert "#" not in again.stdout
    check(repository, 6)

    assert (git(repository, "rev-parse", "HEAD"), (repository / ".git/index").read_bytes()) == before
    assert left(repository) == []
    assert not RunPaths(repository, "demo").scratch(0).exists()
    found = json.loads(run(repository, "status", "--json").stdout)
    assert (found["tag"], found["experiments"], found["running"]) == ("demo", 6, False)
    assert run(repository, "status").stdout.startswith("run demo: stopped\n6 experiments, ")


def check(root: Path, rows: int, tag: str = "demo") -> None:
    """Ledger, journal, refs and checkout agree."""
    frame = results.read(root / "results.tsv")
    assert frame.height == rows
    assert frame["status"][0] == "keep"
    assert frame["description"][0] == "baseline"
    assert all(math.isfinite(value) for value in frame["val_bpb"])
    refs = git(
        root, "for-each-ref", "--format=%(refname:lstrip=3) %(objectname:short=7)", "refs/autoresearch"
    )
    candidates = dict(line.split() for line in refs.splitlines())
    assert [candidates[f"{n:04d}"] for n in range(1, rows + 1)] == frame["commit"].to_list()
    last_kept = [row["commit"] for row in frame.iter_rows(named=True) if row["status"] == "keep"][-1]
    assert git(root, "rev-parse", "--short=7", f"autoresearch/{tag}") == last_kept
    assert git(root, "status", "--porcelain") == "?? results.tsv"
    assert git(root, "fsck", "--strict", "--no-dangling") == ""
    assert fold(journal.read(RunPaths(root, tag).journal)).rows == rows


def test_the_logged_number_is_what_training_at_that_commit_gives(repository: Path, tmp_path: Path) -> None:
    assert headless(repository, 3).returncode == 0
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "by-hand"), "autoresearch/demo")
    printed = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path / "by-hand", capture_output=True, text=True, check=True,
        env={**os.environ, "AUTORESEARCH_BUDGET_S": "0.1"},
    ).stdout  # fmt: skip
    kept = results.read(repository / "results.tsv").filter(status="keep")
    assert f"val_bpb: {kept['val_bpb'][-1]:.6f}" in printed


def test_rows_of_another_tool_and_of_another_tag_stay(repository: Path) -> None:
    theirs = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\nbaseline\t0.997900\t44.0\tkeep\tthe first\n"
    (repository / "results.tsv").write_text(theirs)
    assert headless(repository, 2, "one").returncode == 0
    assert headless(repository, 2, "two").returncode == 0
    text = (repository / "results.tsv").read_text()
    assert text.startswith(theirs)
    assert len(text.splitlines()) == 2 + 4


def test_a_run_without_end_is_stopped_from_another_shell(repository: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "--headless", "--agent", "search", "--budget", "60"],
        cwd=repository, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "#1 training" not in process.stdout.readline():
        assert process.poll() is None
    began = time.monotonic()
    assert run(repository, "stop", "--now").stdout == "stopping now\n"
    assert time.monotonic() - began < 5
    assert process.wait(5) == 0
    assert left(repository) == []
    process.stdout.close()


def test_ctrl_c_ends_everything_and_the_same_command_goes_on(repository: Path) -> None:
    words = [*COMMAND, "run", "--headless", "--agent", "search", "--tag", "demo", "--budget", "1"]
    process = subprocess.Popen(
        [*words, "--max-experiments", "2"], cwd=repository, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "#1 training" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    process.stdout.close()
    assert left(repository) == []
    assert headless(repository, 2).returncode == 0
    check(repository, 2)
