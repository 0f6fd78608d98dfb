"""What a stranger's git repository brings along, its hooks, filters and settings, runs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.cli.__main__ import main
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
