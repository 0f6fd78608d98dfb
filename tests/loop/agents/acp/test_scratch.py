"""The scratch directory: what a CLI agent finds in it, what is taken from it, and that it goes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from loop.agents import checks
from loop.agents.acp import scratch
from loop.agents.acp.scratch import Scratch
from loop.agents.base import Failure
from loop.experiment import Experiment
from tests.conftest import TRAINER
from tests.loop.agents.world import Past, baseline, context


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scratch directories are made in a folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_holds_what_the_agent_may_read_and_the_file_it_may_edit() -> None:
    past = [baseline(), Experiment(2, "c1", "discard", "c2", "X to 2.0", value=1.5)]
    sources = Past({2: TRAINER.replace("X = 3.0", "X = 2.0")})
    readonly = {"prepare.py": "evaluate = 1\n", "data/tokens.py": "VOCAB = 4\n"}
    given = context(n=3, experiments=past, archive=sources, readonly=readonly, notes="noted\n")
    made = Scratch(given)
    files = {
        path.relative_to(made.folder).as_posix(): path for path in made.folder.rglob("*") if path.is_file()
    }
    assert set(files) == {"train.py", "prepare.py", "data/tokens.py", "notes.md", "past/0002.diff"}
    assert made.read("train.py") == TRAINER
    assert made.read("notes.md") == "noted\n"
    assert "+X = 2.0  # where we stand [0.1, 10.0]" in files["past/0002.diff"].read_text().splitlines()
    writable = {name for name, path in files.items() if path.stat().st_mode & 0o200}
    assert writable == {"train.py", "notes.md"}


def test_a_repair_finds_the_file_that_crashed_and_its_log() -> None:
    made = Scratch(context(failure=Failure(1, "NameError", "Traceback\n", "X = oops\n")))
    assert made.read("train.py") == "X = oops\n"
    assert made.read("run.log") == "Traceback\n"


def test_only_regular_files_are_read() -> None:
    made = Scratch(context())
    path = made.folder / "train.py"
    path.unlink()
    assert made.read("train.py") is None
    path.symlink_to("/etc/passwd")
    assert made.read("train.py") is None
    path.unlink()
    os.mkfifo(path)
    assert made.read("train.py") is None


@pytest.mark.parametrize("character", ["x", "é", "三", "🙂"])
def test_a_file_that_is_cut_is_still_too_long(character: str) -> None:
    made = Scratch(context())
    made.folder.joinpath("train.py").write_text(character * (checks.SOURCE_MOST + 100))
    read = made.read("train.py") or ""
    assert len(read) > checks.SOURCE_MOST
    made.folder.joinpath("train.py").write_text(character * checks.SOURCE_MOST)
    assert made.read("train.py") == character * checks.SOURCE_MOST


@pytest.mark.parametrize(
    ("text", "description", "hypothesis"),
    [
        ("# X to 2.0\n\nCloser.\n", "X to 2.0", "Closer."),
        ("Description: wider\nIt helps.\nMuch.", "wider", "It helps.\nMuch."),
        ("\n\n", "", ""),
        ("w" * 300 + "\n" + "h" * 3000, "w" * 200, "h" * 2000),
    ],
)
def test_the_first_line_of_the_proposal_is_its_description(
    text: str, description: str, hypothesis: str
) -> None:
    made = Scratch(context())
    assert made.proposal() == ("", "")
    (made.folder / "proposal.md").write_text(text)
    assert made.proposal() == (description, hypothesis)


def test_what_else_the_agent_changes_is_named() -> None:
    made = Scratch(context(readonly={"prepare.py": "x = 1\n", "more.py": "y = 1\n"}))
    assert made.strays() == []
    for name in ("train.py", "proposal.md", "notes.md"):
        (made.folder / name).write_text("mine\n")
    assert made.strays() == []
    (made.folder / "prepare.py").chmod(0o644)
    (made.folder / "prepare.py").write_text("x = 2\n")
    (made.folder / "more.py").unlink()
    (made.folder / "sub").mkdir()
    (made.folder / "sub/new.txt").write_text("new\n")
    (made.folder / "link").symlink_to("/etc")
    assert made.strays() == ["link", "more.py", "prepare.py", "sub/new.txt"]


def test_it_is_deleted_whatever_the_agent_made_of_it(temporary: Path) -> None:
    made = Scratch(context())
    (made.folder / "deep/er").mkdir(parents=True)
    (made.folder / "deep/er/file").write_text("x")
    (made.folder / "deep").chmod(0)
    made.close()
    assert list(temporary.iterdir()) == []


def test_a_sweep_deletes_only_old_directories_of_engines_that_are_gone(temporary: Path) -> None:
    living, dead, new, other = (
        Scratch(context()).folder,
        temporary / "autoresearch-999999999.5-old",
        temporary / "autoresearch-999999999.5-new",
        temporary / "autoresearch-of-somebody",
    )
    for folder in (dead, new, other):
        folder.mkdir()
    for folder in (living, dead, other):
        os.utime(folder, (0, 0))
    scratch.sweep()
    assert set(temporary.iterdir()) == {living, new, other}
