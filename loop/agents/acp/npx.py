"""Finds the program behind `npx PACKAGE`, so that the agent itself starts without npx.

npx would ask the registry at each start. Its folder is also not the agent's to change: what lies there is
run again, by others and without a fence. And it obeys the project that it is started in, or below: an
`.npmrc` may name a program that npx runs, a registry, and variables that are sent there; a package beside it
is run in the place of the one asked for. So it is started in an empty project of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path

from loop.agents.base import AgentFailed, AgentStopped
from loop.text import clean

INSTALL_S = 180.0
"""How long npx may take to download a package."""
NODE_LEAST = 22
"""The first version of Node for which the newest packages of Claude Code and Qwen are made."""
_PREFIX = re.compile(r"^npm (error|ERR!)\s*(\d{3}\b)?\s*")
_NOISE = re.compile(r"^$|^npm |^(code|errno|syscall) |^A complete log of this run")
"""Lines of npm, without its prefix, that do not tell why it failed."""
_CODE = re.compile(r"npm (?:error|ERR!) code (\w+)")


def packaged(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """The package that an npx command names, and the arguments for its program; None for other commands."""
    if not command or Path(command[0]).name != "npx":
        return None
    rest = list(command[1:])
    while rest and rest[0] in ("-y", "--yes", "--prefer-offline", "--offline", "-q", "--quiet"):
        rest.pop(0)
    return (rest[0], rest[1:]) if rest and not rest[0].startswith("-") else None


async def program(command: Sequence[str], environ: Mapping[str, str], *, offline: bool = False) -> list[str]:
    """The command without npx; one that is not of npx is returned as it is.

    A package that is not there yet is downloaded, unless `offline`. Raises `AgentFailed` with npm's own
    reason, or `AgentStopped` when there is no npx.
    """
    found = packaged(command)
    if found is None:
        return list(command)
    package, arguments = found
    network = "--offline" if offline else "--prefer-offline"  # 3 s instead of 73 s
    asked = [command[0], "-y", network, "-p", package, "-c", "echo $PATH"]
    with tempfile.TemporaryDirectory(prefix="autoresearch-npx-") as project:
        Path(project, "package.json").write_text("{}")  # else the projects of the folders above count
        code, out, said = await _output(asked, project, environ, package)
    if code:
        reason = f"{why(said.decode('utf-8', 'replace'))}{_passed_over(Path.cwd(), environ)}"
        raise AgentFailed(f"npx cannot get {package}: {reason}")
    modules = Path(out.decode().strip().split(":")[0]).parent  # .../node_modules/.bin comes first
    return [str(_binary(modules, package)), *arguments]


async def _output(
    command: Sequence[str], folder: str, environ: Mapping[str, str], package: str
) -> tuple[int | None, bytes, bytes]:
    """Exit code and output of npx. Raises `AgentFailed` when it is slow, `AgentStopped` without npx."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=folder, env=dict(environ),
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise AgentStopped(f"cannot start {command[0]} ({error.strerror}): install Node.js") from error
    try:
        async with asyncio.timeout(INSTALL_S):
            out, said = await child.communicate()
    except TimeoutError as error:
        raise AgentFailed(f"npx did not get {package} in {INSTALL_S:.0f} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode, out, said


async def old_node(environ: Mapping[str, str]) -> str:
    """A sentence that says that this machine's Node is old, for which npx takes older agents; else empty."""
    try:
        child = await asyncio.create_subprocess_exec(
            "node", "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=dict(environ)
        )
        version = (await child.communicate())[0].decode().strip()
    except OSError:
        return ""
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) >= NODE_LEAST:
        return ""
    return f"Node {version[1:]} is old: npx takes older agents for it; install Node {NODE_LEAST} or later"


def _binary(modules: Path, package: str) -> Path:
    """The program of a package in this folder of packages. Raises `AgentFailed` when it has none."""
    name = re.sub(r"(?<=.)@.*", "", package)
    try:
        binaries = json.loads((modules / name / "package.json").read_text("utf-8"))["bin"]
        short = name.rpartition("/")[2]
        path = binaries if isinstance(binaries, str) else binaries.get(short) or next(iter(binaries.values()))
        return (modules / name / path).resolve(strict=True)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise AgentFailed(f"{package} has no program to start ({error!r})") from error


def _passed_over(here: Path, environ: Mapping[str, str]) -> str:
    """What to do where a repository's `.npmrc`, in this folder or above it, may name the registry needed."""
    folders = {here, *here.parents} - {Path(environ.get("HOME", "/"))}
    if not any(os.path.exists(folder / ".npmrc") for folder in folders):
        return ""
    return "; the repository's .npmrc does not count: put its registry into ~/.npmrc or NPM_CONFIG_REGISTRY"


def why(said: str) -> str:
    """The line of npm's output that tells why it failed, with npm's code for it."""
    lines = [_PREFIX.sub("", line.strip()) for line in clean(said).splitlines()]
    telling = [line for line in lines if not _NOISE.search(line)]
    code = _CODE.search(said)
    return f"{telling[0][:200] if telling else 'no word why'}{f' ({code[1]})' if code else ''}"
