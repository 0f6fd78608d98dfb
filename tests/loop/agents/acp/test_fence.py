"""What a program behind an agent's fence can and cannot do: a real process, behind a real fence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.agents.acp import fence

needs_a_fence = pytest.mark.skipif(not fence.possible(), reason="the kernel has no Landlock that keeps files")


def run(tmp_path: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A shell command behind the fence; it may write in `scratch`."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    argv = fence.around(["sh", "-c", command], [scratch], {"PATH": "/usr/bin:/bin"})
    return subprocess.run(argv, cwd=scratch, capture_output=True, text=True, check=False, timeout=60)


@needs_a_fence
def test_it_writes_in_its_own_folder_and_reads_the_system(tmp_path: Path) -> None:
    done = run(
        tmp_path, "echo x > here && cat here && head -c 4 /etc/hosts > /dev/null && ls /usr > /dev/null"
    )
    assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr


@needs_a_fence
@pytest.mark.parametrize(
    "command", ["cat {secret}", "ls {folder}", "echo x > {secret}", "rm {secret}", "ls ~"]
)
def test_it_reaches_nothing_else(tmp_path: Path, command: str) -> None:
    secret = tmp_path / ".autoresearch/secret"
    secret.parent.mkdir()
    secret.write_text("hidden")
    done = run(tmp_path, command.format(secret=secret, folder=tmp_path))
    assert done.returncode != 0
    assert "hidden" not in done.stdout
    assert secret.read_text() == "hidden"


@needs_a_fence
def test_it_does_not_see_the_environment_of_its_engine(tmp_path: Path) -> None:
    done = run(tmp_path, "cat /proc/$PPID/environ")
    assert done.stdout == ""


@needs_a_fence
def test_it_cannot_open_a_terminal_of_the_user(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    try:
        terminal = os.ttyname(follower)
        done = run(tmp_path, f"echo typed > {terminal}; cat < /dev/ptmx; echo > /dev/null && echo alive")
        os.set_blocking(leader, False)
        with pytest.raises(BlockingIOError):
            os.read(leader, 100)
        assert done.stdout == "alive\n"
    finally:
        os.close(leader)
        os.close(follower)


def test_an_npm_program_is_read_with_its_packages_and_node(tmp_path: Path) -> None:
    program = tmp_path / "node_modules/@a/b/main.js"
    program.parent.mkdir(parents=True)
    program.write_text("#!/usr/bin/env node\n")
    program.chmod(0o755)
    node = tmp_path / "node/bin/node"
    node.parent.mkdir(parents=True)
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    found = fence.programs([str(program)], {"PATH": str(node.parent)})
    assert found == sorted(str(p) for p in (program, tmp_path / "node_modules", node, tmp_path / "node"))


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    argv = fence.around(["no-such-agent"], [tmp_path], {"PATH": "/bin"})
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "cannot start behind the fence" in done.stderr
    assert sys.executable == argv[0]
