"""Files of a repository that count before any training, whoever wrote them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.records import foreign_files
from loop.records.repository import Repository
from tests.conftest import git


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 40 * 2**30)


def circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [fifo, endless, huge, circle, Path.mkdir])
def test_what_is_no_plain_file_is_refused_as_settings_and_empty_as_instructions(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "file")
    with pytest.raises(UsageError, match="is no plain file of at most 64 KB"):
        foreign_files.toml(tmp_path / "file")
    assert foreign_files.program(tmp_path, "file") == ""


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert foreign_files.toml(tmp_path / "none") == {}
    assert foreign_files.program(tmp_path, "none") == foreign_files.program(tmp_path, "") == ""


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "a = " + "[" * 50_000, "\x00", "a = 1979-99-99"])
def test_what_is_not_toml_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(UsageError) as caught:
        foreign_files.toml(tmp_path / "file")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("part", ["a", '"a"', "'a'"])
@pytest.mark.parametrize("line", ["{} = 1", "a = {{{} = 1}}", "[{}]"])
def test_a_key_of_many_parts_is_refused_before_it_takes_minutes(tmp_path: Path, part: str, line: str) -> None:
    (tmp_path / "file").write_text(line.format(".".join([part] * 15_000)))
    with pytest.raises(UsageError, match="more than 100 dots"):
        foreign_files.toml(tmp_path / "file")


def test_dots_in_texts_and_comments_are_none_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f'# {"." * 200}\na = ["{"b." * 200}\\".", \'{"." * 200}\']\n')
    assert len(foreign_files.toml(tmp_path / "file")["a"]) == 2


def test_every_text_is_cleaned_keys_included(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(r'"k\u001b[2J" = ["a\u0007\nb", {c = "\u202ed"}]' + "\nn = 3\n")
    assert foreign_files.toml(tmp_path / "file") == {"k": ["a b", {"c": "d"}], "n": 3}


def is_mild(root: Path, *, has_commands: bool) -> bool:
    opened = Repository.discover(root)
    try:
        head = opened.head()
        return foreign_files.is_mild_program(opened, head, "program.md", has_commands=has_commands)
    finally:
        opened.close()


def test_a_program_behind_a_link_inside_the_repository_is_read(repository: Path) -> None:
    (repository / "docs").mkdir()
    (repository / "docs/me.md").write_text("be bold")
    (repository / "program.md").symlink_to("docs/me.md")
    git(repository, "add", "docs")
    git(repository, "commit", "-qm", "instructions")
    assert foreign_files.program(repository, "program.md") == "be bold"
    assert is_mild(repository, has_commands=False)
    assert not is_mild(repository, has_commands=True)


def test_our_own_program_is_mild_for_every_agent(repository: Path) -> None:
    own = next(path for path in foreign_files.OWN_PROGRAMS if path.is_file())
    (repository / "program.md").write_bytes(own.read_bytes())
    assert is_mild(repository, has_commands=True)
