"""What a stranger's git repository brings along, its hooks, filters and settings, runs nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop.cli.__main__ import main
from loop.errors import UsageError
from loop.records.repository import Repository
from tests.conftest import git

HOOKS = (
    "applypatch-msg", "pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-rebase",
    "post-checkout", "post-merge", "pre-push", "reference-transaction", "post-index-change", "pre-auto-gc",
    "update", "post-update", "pre-receive", "post-receive", "proc-receive", "push-to-checkout",
    "post-rewrite", "fsmonitor-watchman",
)  # fmt: skip
SETTINGS = (
    "core.fsmonitor", "core.pager", "core.editor", "core.sshCommand", "core.askPass", "core.gitProxy",
    "credential.helper", "diff.external", "diff.x.textconv", "diff.x.command", "merge.x.driver",
    "filter.x.clean", "filter.x.smudge", "filter.x.process", "gpg.program", "alias.status",
    "uploadpack.packObjectsHook", "sequence.editor", "interactive.diffFilter",
)  # fmt: skip


@pytest.mark.slow
def test_hooks_filters_and_settings_of_a_repository_are_not_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (repository / ".gitattributes").write_text("* filter=x diff=x merge=x text eol=crlf ident export-subst\n")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-qm", "attributes")
    program = repository / ".git/owner"
    program.write_text(f"#!/bin/sh\ntouch '{repository}/owned'\n")
    program.chmod(0o755)
    for name in HOOKS:
        (repository / ".git/hooks").mkdir(exist_ok=True)
        (repository / ".git/hooks" / name).unlink(missing_ok=True)
        (repository / ".git/hooks" / name).symlink_to(program)
    with (repository / ".git/config").open("a") as file:
        for name in SETTINGS:
            first, _, last = name.rpartition(".")
            section, _, of = first.partition(".")
            quoted = f' "{of}"' if of else ""
            file.write(f"[{section}{quoted}]\n\t{last} = {program}\n")
        file.write(f"[commit]\n\tgpgSign = true\n[include]\n\tpath = {repository}/.git/more\n")
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "2"]
    assert main([*words, "--baseline-runs", "1"]) == 0
    assert main(["status"]) == 0
    assert main(["doctor"]) in (0, 1)
    assert not (repository / "owned").exists()
    assert len((repository / "results.tsv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_submodule_is_left_out_and_not_fetched(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    url = f"ext::sh -c touch% {repository}/owned"
    (repository / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = {url}\n')
    head = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},x")
    git(repository, "add", ".gitmodules")
    git(repository, "commit", "-qm", "a submodule")
    words = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "1"]
    assert main([*words, "--baseline-runs", "1"]) == 0
    assert not (repository / "owned").exists()
    assert list((repository / ".autoresearch/t/slots").rglob("x")) == []


@pytest.fixture
def patience() -> Iterator[None]:
    """What waits for a pipe is ended."""

    def end(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("patience")
def test_a_pipe_in_the_place_of_a_branch_is_refused(repository: Path) -> None:
    os.mkfifo(repository / ".git/refs/heads/x")
    with pytest.raises(UsageError, match="refs/heads/x is no plain file"):
        Repository.discover(repository)


@pytest.mark.usefixtures("patience")
def test_a_git_file_that_leads_to_odd_files_is_refused(repository: Path, tmp_path: Path) -> None:
    """As `git worktree` and submodules have one."""
    elsewhere = tmp_path / "elsewhere"
    (repository / ".git").rename(elsewhere)
    (repository / ".git").write_text(f"gitdir: {elsewhere}\n")
    Repository.discover(repository).close()
    (elsewhere / "packed-refs").unlink(missing_ok=True)
    os.mkfifo(elsewhere / "packed-refs")
    with pytest.raises(UsageError, match="packed-refs is no plain file"):
        Repository.discover(repository)


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["HEAD", "config", "packed-refs", "objects/info/alternates", "commondir"])
def test_odd_files_of_a_git_folder_are_refused_in_one_line(repository: Path, name: str, kind: str) -> None:
    """They cannot be committed, but a folder can be sent as it is."""
    path = repository / ".git" / name
    path.unlink(missing_ok=True)
    ODD[kind](path)
    with pytest.raises(UsageError) as error:
        Repository.discover(repository).head()
    assert "\n" not in str(error.value)
