"""A CLI agent's process gets little of the environment, and ends with all it has started."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import psutil
import pytest

from loop.agents.acp import process

SLEEP = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(300)"
ORPHAN = (
    f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEP!r}, sys.argv[1]],"
    " start_new_session=True)"
)


async def number_in(path: Path) -> int:
    """The process number that a child writes to a file, once it is there."""
    async with asyncio.timeout(20):
        while not (path.exists() and path.read_text()):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
    return int(path.read_text())


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_secrets_are_found_by_the_names_of_their_variables() -> None:
    environ = {
        "PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "anthropic-1", "AWS_ACCESS_KEY_ID": "amazon-123456",
        "AUTORESEARCH_NOTIFY": "mailto://me:password@host", "SHORT_TOKEN": "1234567", "EMPTY_KEY": "",
    }  # fmt: skip
    assert process.secrets(environ) == (
        "mailto://me:password@host", "amazon-123456", "anthropic-1", "me:password", "password",
    )  # fmt: skip


def test_secrets_are_found_in_addresses() -> None:
    environ = {
        "MLFLOW_TRACKING_URI": "https://me:very%20secret@host",
        "HTTP_PROXY": "http://u:of-the-proxy@h",
    }
    assert set(process.secrets(environ)) == {
        "me:very%20secret", "very%20secret", "very secret", "u:of-the-proxy", "of-the-proxy",
    }  # fmt: skip


def test_secrets_are_found_in_variables_that_hold_a_configuration() -> None:
    options = {"baseURL": "http://localhost", "apiKey": "of-the-provider"}
    environ = {
        "OPENCODE_CONFIG_CONTENT": json.dumps({"provider": {"mine": options}, "list": [options]}),
        "CODEX_CONFIG": '{"env_key": "MY_VARIABLE"}', "MY_VARIABLE": "no secret",
        "BROKEN": "{", "DEEP": '{"a":' * 100_000, "A_LIST": "[1]",
    }  # fmt: skip
    assert process.secrets(environ) == ("of-the-provider",)


def test_an_agent_gets_common_variables_and_those_of_its_vendor() -> None:
    base = {
        "PATH": "/bin", "XDG_CONFIG_HOME": "/c", "NPM_CONFIG_CACHE": "/n", "LD_PRELOAD": "x",
        "npm_config_//registry/:_authToken": "t", "npm_config_registry": "https://me:pw@host",
        "OURS": "1", "OURS_A": "2", "CODEX_HOME": "/h", "CODEX": "3", "OTHER_KEY": "k",
    }  # fmt: skip
    passed = process.agent_environment(base, ("OURS", "CODEX_"), "mark")
    assert passed == {
        "PATH": "/bin", "NPM_CONFIG_CACHE": "/n", "OURS": "1", "CODEX_HOME": "/h",
        process.MARK: "mark",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mark", "dead"),
    [
        ("autoresearch-OWNER-abc", False),
        ("OWNER-abc", False),
        ("autoresearch-PID.5-abc", True),
        ("autoresearch-999999999.5-abc", True),
        ("autoresearch-folder", False),
        ("", False),
    ],
)
def test_a_mark_tells_whether_its_engine_lives(mark: str, dead: bool) -> None:
    mark = mark.replace("OWNER", process.owner()).replace("PID", str(os.getpid()))
    assert process.engine_is_gone(mark) is dead


async def test_a_process_has_pipes_and_a_session_of_its_own(tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), input())"
    child = await process.start([sys.executable, "-c", code], str(tmp_path), {"PATH": "/bin"})
    stdin, stdout, stderr = process.pipes(child)
    stdin.write(b"hello\n")
    assert await stdout.readline() == f"True {tmp_path} hello\n".encode()
    assert await stderr.read() == b""
    await process.end(child, "no such mark")
    assert child.returncode == 0


async def test_a_program_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await process.start(["no-such-program"], str(tmp_path), {"PATH": "/bin"})


async def test_ending_a_process_ends_what_left_its_session_and_lost_its_parent(tmp_path: Path) -> None:
    mark = f"{process.owner()}-test"
    env = process.agent_environment(os.environ, (), mark)
    far, near = tmp_path / "far", tmp_path / "near"
    code = f"import sys; exec({ORPHAN!r}); sys.argv[1] = sys.argv[2]; exec({SLEEP!r})"
    child = await process.start([sys.executable, "-c", code, str(far), str(near)], str(tmp_path), env)
    pids = [await number_in(path) for path in (far, near)]
    assert all(alive(pid) for pid in pids)
    await process.end(child, mark)
    assert not any(alive(pid) for pid in pids)


async def test_a_process_that_does_not_end_by_itself_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.1)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(1, flush=True); time.sleep(300)"
    )
    child = await process.start([sys.executable, "-c", code], str(tmp_path), {"PATH": "/bin"})
    await process.pipes(child)[1].readline()
    await process.end(child, "no such mark")
    assert child.returncode == -9


async def test_a_sweep_spares_the_processes_of_engines_that_live(tmp_path: Path) -> None:
    pids = {}
    for name, mark in (("ours", f"{process.owner()}-x"), ("theirs", "999999999.5-x")):
        path = tmp_path / name
        env = process.agent_environment(os.environ, (), mark)
        pids[name] = await process.start([sys.executable, "-c", SLEEP, str(path)], str(tmp_path), env)
        await number_in(path)
    await asyncio.to_thread(process.sweep)
    assert await pids["theirs"].wait() == -9
    assert alive(pids["ours"].pid)
    await process.end(pids["ours"], f"{process.owner()}-x")
