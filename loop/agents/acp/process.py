"""The process of a CLI agent: gives it its environment, starts it, and ends it with everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote

import psutil

from loop import processes
from loop.text import is_secret, logins, names_a_secret

MARK = "AUTORESEARCH_CHILD"
"""Environment variable that all descendants of a CLI agent inherit. Its value, the mark, is different for
each proposal: by it they are found even when they have left the agent's session."""
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""Environment variables that every CLI agent gets, besides those of its own vendor."""
PREFIXES = ("NVM_", "NPM_CONFIG_", "npm_config_")
"""Beginnings of the names of further variables that every CLI agent gets, but for those that are secret."""
GRACE_S = 2.0
"""How long a CLI agent has to end by itself before it is killed."""
_OWNER = re.compile(r"(?:autoresearch-)?(\d+)\.(\d+)-")
"""The engine in a mark, or in the name of a scratch directory: its process id and start time."""


def secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values of the variables that hold secrets, the longest first.

    Secrets in variables that hold a whole configuration as JSON, as OPENCODE_CONFIG_CONTENT does, are among
    them, and so are name and password in an address. Values of less than 8 characters are left out, because
    such a piece of text may occur anywhere, and names of variables.
    """
    found = {value for name, value in environ.items() if names_a_secret(name)}
    for value in environ.values():
        for login in logins(value):
            password = login.partition(":")[2]
            found |= {login, password, unquote(password)}
        if value.lstrip().startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):
                found |= set(_secrets_in(json.loads(value)))
    long = {value for value in found if len(value) >= 8 and value not in environ}
    return tuple(sorted(long, key=lambda value: (-len(value), value)))


def _secrets_in(configuration: object) -> Iterator[str]:
    """The texts below names such as `apiKey`."""
    if isinstance(configuration, list):
        for part in configuration:
            yield from _secrets_in(part)
    elif isinstance(configuration, dict):
        for name, value in configuration.items():
            if isinstance(value, str) and names_a_secret(str(name)):
                yield value
            yield from _secrets_in(value)


def owner() -> str:
    """Process id and start time of this engine, by which a later engine can tell whether it still lives."""
    return f"{os.getpid()}.{processes.start_ticks(os.getpid())}"


def engine_is_gone(mark: str) -> bool:
    """Whether the engine is gone that made this mark, or the scratch directory of this name."""
    found = _OWNER.match(mark)
    return found is not None and not processes.alive(int(found[1]), int(found[2]))


def sweep() -> None:
    """Kill the processes that CLI agents of a killed engine have left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if engine_is_gone(process.environ().get(MARK, "")):
                process.kill()


def agent_environment(base: Mapping[str, str], vendor: Sequence[str], mark: str) -> dict[str, str]:
    """The environment of a CLI agent: what it may have of `base`, and its mark.

    `vendor` holds names of variables, or beginnings of names that end in `_`.
    """
    own = tuple(name for name in vendor if name.endswith("_"))
    passed = {
        name: value
        for name, value in base.items()
        if name in (*PASSED, *vendor)
        or name.startswith(own)
        or (name.startswith(PREFIXES) and not is_secret(name, value))
    }
    return {**passed, MARK: mark}


async def start(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a process in a session of its own, with pipes. Raises OSError."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=dict(env),
        limit=64 * 2**20,
        start_new_session=True,
    )


def pipes(
    process: asyncio.subprocess.Process,
) -> tuple[asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamReader]:
    """Standard input, output and error of a process that `start` started."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None, "start asks for pipes"
    assert stdout is not None, "start asks for pipes"
    assert stderr is not None, "start asks for pipes"
    return stdin, stdout, stderr


async def end(process: asyncio.subprocess.Process, mark: str) -> None:
    """End the process and all its descendants, also those that have left its session or lost their parent."""
    tree = _tree(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), GRACE_S)
    for _ in range(5):  # a process may start another while we look
        left = [p for p in {*tree, *_tree(process.pid), *_marked(mark)} if p.is_running()]
        alive = [p for p in left if _status(p) != psutil.STATUS_ZOMBIE]
        if not alive:
            break
        for p in alive:
            with contextlib.suppress(psutil.Error):
                p.kill()
        await asyncio.sleep(0.02)
    await process.wait()


def _tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it is gone."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _marked(mark: str) -> list[psutil.Process]:
    """All processes of this machine that carry this mark."""
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if p.environ().get(MARK) == mark:
                found.append(p)
    return found


def _status(p: psutil.Process) -> str:
    """What psutil says of a process; one that is gone counts as a zombie."""
    with contextlib.suppress(psutil.Error):
        return str(p.status())
    return str(psutil.STATUS_ZOMBIE)
