"""Where things are kept."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.paths import RunPaths, check_tag, new_tag, tags, write_whole
from tests.conftest import git


def test_a_run_is_invisible_to_git_and_its_journal_makes_it_known(repository: Path) -> None:
    for index, tag in enumerate(("b", "a")):
        paths = RunPaths(repository, tag)
        paths.create()
        paths.journal.touch()
        os.utime(paths.journal, (index, index))
    RunPaths(repository, "never-started").create()
    assert tags(repository) == ["b", "a"]
    assert git(repository, "status", "--porcelain") == ""


def test_the_socket_is_private_and_its_path_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90) / ("y" * 90)
    deep.mkdir(parents=True)
    for runtime in ("", "relative", str(deep), str(tmp_path / "missing"), str(tmp_path)):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        socket = RunPaths(deep, "t").socket()
        assert len(str(socket)) <= 107
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert RunPaths(deep, "t").socket() != RunPaths(deep, "u").socket()


@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        os.mkfifo,
        lambda path: path.symlink_to("elsewhere"),
        lambda path: path.symlink_to("nowhere"),
    ],
)
def test_what_somebody_made_in_the_place_of_the_private_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    """Its name in the folder for temporary files can be guessed by every user."""
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setenv("XDG_RUNTIME_DIR", "")
        Path(short, "elsewhere").mkdir()
        make(Path(short, f"autoresearch-tui-{os.getuid()}"))
        for use in (RunPaths.socket, lambda paths: paths.scratch(0)):
            with pytest.raises(UsageError, match="is not a folder of yours"):
                use(RunPaths(Path(short), "t"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_runtime_folder_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as theirs:
        os.chmod(theirs, 0o777)
        os.chown(theirs, 65534, 65534)
        monkeypatch.setenv("XDG_RUNTIME_DIR", theirs)
        assert not RunPaths(Path("/r"), "t").socket().is_relative_to(theirs)


@pytest.mark.parametrize("tag", ["", "-x", "a/b", "a b", "..", "x" * 65, "a.lock", "é"])
def test_a_tag_that_could_not_be_a_branch_or_a_folder_is_refused(tag: str) -> None:
    with pytest.raises(UsageError, match="must be letters"):
        check_tag(tag)


def test_the_default_tag_is_the_date_made_unique() -> None:
    today = date(2026, 11, 23)
    assert new_tag(today, set()) == "nov23"
    assert new_tag(today, {"nov23", "nov23-2"}) == "nov23-3"
    assert check_tag("nov23-3") == "nov23-3"


def test_a_folder_that_cannot_be_made_is_named(repository: Path) -> None:
    (repository / ".autoresearch").write_text("a file in the way")
    with pytest.raises(UsageError, match=r"cannot write .*\.autoresearch/t: "):
        RunPaths(repository, "t").create()


def test_a_runs_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    RunPaths(tmp_path, "t").create()
    assert stat.S_IMODE((tmp_path / ".autoresearch").stat().st_mode) == 0o700
    assert (tmp_path / ".autoresearch/.gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    "link",
    [
        ".autoresearch",
        *(f".autoresearch/t{name}" for name in ("", "/slots", "/slots/0", "/experiments", "/venv")),
    ],
)
def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path, link: str) -> None:
    """A repository of somebody else may hold such a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="leads elsewhere"):
        RunPaths(tmp_path, "t").create()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_editor_that_has_the_notes_open_keeps_no_run_off(tmp_path: Path) -> None:
    """Emacs marks a file that is being edited by a link that leads nowhere."""
    paths = RunPaths(tmp_path, "t")
    paths.create()
    (paths.folder / ".#notes.md").symlink_to("somebody@machine.123:456")
    paths.check()


def test_no_file_is_written_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / ".autoresearch").mkdir()
    (tmp_path / ".autoresearch/.gitignore").symlink_to(tmp_path / "mine")
    RunPaths(tmp_path, "t").create()
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "note"
    for content in (b"first", b"second"):
        write_whole(file, content, durable=durable)
        assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_whole(tmp_path / "folder", b"third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "note"]
