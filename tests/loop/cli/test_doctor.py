"""What `doctor` finds, and what it never shows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loop import stranger
from loop.cli import doctor
from loop.cli.__main__ import main
from loop.cli.doctor import Finding
from loop.records.repository import Repository
from loop.training import gpu
from loop.training.gpu import Facts
from loop.training.selftest import Check, Result
from tests.loop.agents.api.wire import Reply, Wire


def found(folder: Path, **environ: str) -> dict[str, Finding]:
    return {finding.what: finding for finding in doctor.report(folder, {"PATH": "/usr/bin:/bin", **environ})}


def agree(root: Path) -> None:
    """The user has agreed to all that the repository asks for."""
    repository = Repository.discover(root)
    stranger.remember(stranger.wishes(repository, repository.head(), {}, {}).accepted())
    repository.close()


def test_keys_are_told_of_and_never_shown(repository: Path) -> None:
    there = found(repository, ANTHROPIC_API_KEY="sk-secret-1", OPENAI_API_KEY="")
    assert (there["ANTHROPIC_API_KEY"].text, there["OPENAI_API_KEY"].text) == ("set", "not set")
    assert there["agent"].text == "claude (claude-opus-5-5): ANTHROPIC_API_KEY is set"
    assert not any("secret" in finding.text for finding in there.values())


def test_nothing_set_up_says_how(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = found(repository)
    assert there["agent"].text.startswith("search: No model is set up")
    assert there["repository"].state == "ok"
    assert there["trains"].text == "train.py with `python train.py`"
    assert there["git"].state == "ok"
    assert there["torch"].state == "ok"
    assert not [f for f in there.values() if f.state == "wrong"]


async def test_a_server_is_asked_for_its_models(repository: Path) -> None:
    listed = {"data": [{"id": f"model-{i}"} for i in range(5)]}
    async with Wire(Reply(body=listed), Reply(status=401, body={})) as peer:
        url = peer.url.replace("//", "//user:hidden@")
        served = await asyncio.to_thread(found, repository, OPENAI_BASE_URL=url)
        refused = await asyncio.to_thread(found, repository, OPENAI_BASE_URL=url)
    assert served["base URL"].text == f"{peer.url} serves model-0, model-1, model-2 and 2 more"
    assert served["agent"].text == "gpt: a base URL is set"
    assert refused["base URL"] == Finding(
        "base URL", "wrong", f"{peer.url} answers 401 when asked for its models"
    )


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 X\r\n\r\n", b"HTTP/1.1 200 X\r\nx: "])
@pytest.mark.parametrize(
    "ask", [lambda url: doctor._server(url, "key"), lambda url: doctor._answers("x", url)]
)
async def test_a_server_that_never_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begin: bytes, ask: Callable[[str], Finding]
) -> None:
    monkeypatch.setattr(doctor, "ANSWER_S", 0.1)

    over = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(begin)
            while not over.is_set():
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as served:
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}"
        found = await asyncio.wait_for(asyncio.to_thread(ask, url), 5)
        over.set()
    assert found.state == "wrong"
    assert "no whole answer" in found.text


@pytest.mark.parametrize(
    "said", [b"garbage\r\n\r\n", b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 500 + b"\r\n", b""]
)
async def test_a_server_that_speaks_something_else_is_one_line(said: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as served:
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}"
        for ask in (lambda: doctor._server(url, "key"), lambda: doctor._answers("x", url)):
            found = await asyncio.to_thread(ask)
            assert (found.state, "cannot be reached" in found.text) == ("wrong", True)


def test_all_that_an_agent_may_need_is_looked_at(repository: Path) -> None:
    with (repository / "autoresearch.toml").open("a") as config:
        config.write('agent = "acp"\nagent_command = ["no-such-agent", "--acp"]\n')
    agree(repository)
    there = found(repository, ANTHROPIC_BASE_URL="http://me:hidden@127.0.0.1:1/?key=hidden")
    assert there["agent_command"] == Finding("agent_command", "wrong", "no-such-agent is not on the PATH")
    dead = there["ANTHROPIC_BASE_URL"]
    assert (dead.state, dead.text.split(" (")[0]) == ("wrong", "http://127.0.0.1:1/ cannot be reached")
    assert {"claude-code", "codex", "gemini", "GPU", "data", "git", "sandbox", "torch"} <= set(there)
    assert not any("hidden" in finding.text for finding in there.values())


@pytest.mark.parametrize("problem", ["", "torch 2.13.0 needs NVIDIA driver 580, and this is 550"])
def test_where_a_gpu_has_a_driver_torch_itself_is_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    said = Facts("2.13.0+cu130", "13.0", "580.65", "" if problem else "NVIDIA H100", 79.6, problem, "no gcc")
    monkeypatch.setattr(gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(gpu, "ask", lambda python, environ: said)
    there = found(repository, AUTORESEARCH_CACHE=str(tmp_path))
    if problem:
        assert there["GPU"] == Finding("GPU", "wrong", problem)
    else:
        assert there["GPU"] == Finding("GPU", "ok", "NVIDIA H100, 80 GB, driver 580.65")
    assert there["compiler"] == Finding("compiler", "wrong", "no gcc")
    assert there["torch"].text == "2.13.0+cu130"


def test_the_last_self_test_is_shown(repository: Path, tmp_path: Path) -> None:
    kept = tmp_path / "selftest/0.json"
    kept.parent.mkdir()
    assert found(repository, AUTORESEARCH_CACHE=str(tmp_path))["self test"].state == "none"
    checks = [Check("ok", 1.0, "device", "here"), Check("warn", 1.0, "compiler", "no gcc")]
    kept.write_bytes(msgspec.json.encode(Result("NVIDIA H100", time.time() - 7200, checks)))
    shown = found(repository, AUTORESEARCH_CACHE=str(tmp_path))["self test"]
    assert shown == Finding("self test", "ok", "2 h ago, NVIDIA H100: compiler: no gcc")


def test_what_is_to_be_mended_gives_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert " !!  repository" in out
    assert " !!  base URL           http://127.0.0.1:9/v1 cannot be reached" in out


def test_a_cluster_that_cannot_be_used_is_to_be_mended(repository: Path) -> None:
    with (repository / "autoresearch.toml").open("a") as file:
        file.write('executor = "ray"\nray_address = "127.0.0.1:1"\n')
    assert "ray" not in found(repository)  # a stranger's wish
    agree(repository)
    there = found(repository)["ray"]
    assert there.state == "wrong"
    assert there.text.startswith("no Ray head answers at 127.0.0.1:1 (Connection refused)")
