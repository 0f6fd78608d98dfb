"""The program behind npx, and why npm could not get it. What npm says is what npm 11 has said."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from loop.agents.acp import npx
from loop.agents.base import AgentFailed, AgentStopped

MISSING = """\
npm error code E404
npm error 404 Not Found - GET https://registry/@a%2fb
npm error 404
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log
"""
REFUSED = """\
npm warn something
npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to http://127.0.0.1:1/@a%2fb failed, reason: connect ECONNREFUSED 127.0.0.1:1
npm error     at ClientRequest.<anonymous> (/usr/lib/index.js:130:14)
"""


def command(folder: Path, script: str) -> dict[str, str]:
    """An environment in which npx is this shell script."""
    program = folder / "npx"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def package(folder: Path, name: str, bin_: str) -> Path:
    """A package that npx has installed."""
    place = folder / "node_modules" / name
    place.mkdir(parents=True)
    (place / "package.json").write_text(f'{{"bin": {bin_}}}')
    (place / "main.js").write_text("")
    return place / "main.js"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["npx", "-y", "@a/b"], ("@a/b", [])),
        (["/usr/bin/npx", "--yes", "--prefer-offline", "b@1", "--acp"], ("b@1", ["--acp"])),
        (["npx", "--package=x", "b"], None),
        (["gemini", "--acp"], None),
        ([], None),
    ],
)
def test_which_package_a_command_names(words: list[str], found: tuple[str, list[str]] | None) -> None:
    assert npx.packaged(words) == found


@pytest.mark.parametrize("bin_", ['"main.js"', '{"b": "main.js"}', '{"other": "main.js"}'])
async def test_the_program_is_found_and_keeps_its_arguments(tmp_path: Path, bin_: str) -> None:
    program = package(tmp_path, "@a/b", bin_)
    environ = command(tmp_path, f'echo "$@" > {tmp_path}/asked; echo {tmp_path}/node_modules/.bin:/bin')
    assert await npx.program([f"{tmp_path}/npx", "-y", "@a/b@1.2", "--acp"], environ) == [
        str(program),
        "--acp",
    ]
    assert "--prefer-offline -p @a/b@1.2" in (tmp_path / "asked").read_text()


async def test_a_failure_says_why(tmp_path: Path) -> None:
    environ = command(tmp_path, f"cat >&2 <<'EOF'\n{MISSING}EOF\nexit 1")
    with pytest.raises(AgentFailed, match=r"npx cannot get @a/b: Not Found - GET https://\S+ \(E404\)"):
        await npx.program([f"{tmp_path}/npx", "@a/b"], environ)


@pytest.mark.parametrize("home", [True, False])
async def test_a_registry_that_only_the_repository_names_is_told_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".npmrc").write_text("registry=http://127.0.0.1:1/")
    monkeypatch.chdir(tmp_path / "deep")
    environ = command(tmp_path, f"cat >&2 <<'EOF'\n{MISSING}EOF\nexit 1")
    environ["HOME"] = str(tmp_path if home else tmp_path / "home")
    with pytest.raises(AgentFailed) as failed:
        await npx.program([f"{tmp_path}/npx", "@a/b"], environ)
    assert ("put its registry into ~/.npmrc or NPM_CONFIG_REGISTRY" in str(failed.value)) is not home


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (REFUSED, "FetchError: request to http://127.0.0.1:1/@a%2fb failed, reason: connect ECONNREFUSED "
                  "127.0.0.1:1 (ECONNREFUSED)"),
        ("", "no word why"),
    ],
)  # fmt: skip
def test_the_line_that_tells_why(said: str, reason: str) -> None:
    assert npx.why(said) == reason


async def test_no_npx_needs_a_human() -> None:
    with pytest.raises(AgentStopped, match=r"install Node.js"):
        await npx.program(["/nowhere/npx", "b"], {})


async def test_a_package_without_a_program_is_said(tmp_path: Path) -> None:
    package(tmp_path, "b", "{}")
    environ = command(tmp_path, f"echo {tmp_path}/node_modules/.bin")
    with pytest.raises(AgentFailed, match="b has no program to start"):
        await npx.program([f"{tmp_path}/npx", "b"], environ)


@pytest.mark.parametrize(("version", "old"), [("v20.20.2", True), ("v24.1.0", False), ("?", False)])
async def test_an_old_node_is_said(tmp_path: Path, version: str, old: bool) -> None:
    program = tmp_path / "node"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    said = await npx.old_node({"PATH": f"{tmp_path}:/bin"})
    assert bool(said) is old
    assert not old or "Node 20.20.2 is old" in said


@pytest.mark.skipif(shutil.which("npx") is None, reason="needs npx")
async def test_a_repository_has_npx_run_and_send_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package would be taken for the agent's, its script-shell be started, its registry get the key."""
    place = package(tmp_path, "@agentclientprotocol/x", '"main.js"').parent
    (place / "package.json").write_text(
        '{"name": "@agentclientprotocol/x", "version": "1.0.0", "bin": "main.js"}'
    )
    (tmp_path / "package.json").write_text('{"dependencies": {"@agentclientprotocol/x": "1.0.0"}}')
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    evil.chmod(0o755)
    heard = list[bytes]()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as served:
        port = served.sockets[0].getsockname()[1]
        address = f"//127.0.0.1:{port}/"
        (tmp_path / ".npmrc").write_text(
            f"script-shell={evil}\nregistry=http:{address}\n{address}:_authToken=${{OPENAI_API_KEY}}\n"
        )
        (tmp_path / "home").mkdir()
        (tmp_path / "home/.npmrc").write_text("registry=http://127.0.0.1:1/\nfetch-retries=0\n")
        environ = {"PATH": os.environ["PATH"], "OPENAI_API_KEY": "secret", "HOME": str(tmp_path / "home")}
        monkeypatch.chdir(tmp_path)
        for offline in (True, False):
            with pytest.raises(AgentFailed, match="npx cannot get"):
                await npx.program(["npx", "-y", "@agentclientprotocol/x"], environ, offline=offline)
    assert not (tmp_path / "owned").exists()
    assert heard == []
