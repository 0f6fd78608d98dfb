"""The process of a CLI agent: its environment, and the end of everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence

import psutil

from loop import processes

MARK = "AUTORESEARCH_CHILD"
"""Environment variable by which all descendants are found again, whatever session they put themselves in."""
PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
"""What every CLI agent gets; besides, only the variables of its own vendor."""
_OWNER = re.compile(r"(?:autoresearch-)?(\d+)\.(\d+)-")
PREFIXES = ("XDG_", "NVM_", "NPM_CONFIG_", "npm_config_")
GRACE_S = 2.0
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)S?$")


def secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Values that must be shown nowhere, by the names of their variables; the longest first."""
    found = {v for k, v in environ.items() if _SECRET.search(k.upper()) and len(v) >= 8}
    return tuple(sorted(found, key=len, reverse=True))


def owner() -> str:
    """This process, so that another can tell later whether it still lives."""
    return f"{os.getpid()}.{processes.start_ticks(os.getpid())}"


def owned_by_the_dead(mark: str) -> bool:
    """Whether the process that made this mark (it begins with `owner()`) has ended."""
    found = _OWNER.match(mark)
    return found is not None and not processes.alive(int(found[1]), int(found[2]))


def sweep() -> None:
    """End what CLI agents of a killed engine have left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if owned_by_the_dead(process.environ().get(MARK, "")):
                process.kill()


def environment(base: Mapping[str, str], vendor: Sequence[str], mark: str) -> dict[str, str]:
    """`vendor` names variables, or beginnings of names that end in `_`."""
    prefixes = (*PREFIXES, *(name for name in vendor if name.endswith("_")))
    passed = {k: v for k, v in base.items() if k in PASSED or k in vendor or k.startswith(prefixes)}
    return {**passed, MARK: mark}


async def start(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """A process of its own session with pipes. Raises OSError."""
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
    """End the process and all its descendants, also those that left its session or lost their parent."""
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
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for p in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if p.environ().get(MARK) == mark:
                found.append(p)
    return found


def _status(p: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return str(p.status())
    return str(psutil.STATUS_ZOMBIE)
