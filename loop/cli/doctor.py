"""`autoresearch-tui doctor`: prints what is set up here and what an engine started now would use."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import platform
import queue
import shutil
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import platformdirs
import psutil
from msgspec import Struct

from loop import __version__, config, stranger
from loop.agents.choose import CLI_AGENTS, KEYS, model, place, resolve
from loop.cli import left_out
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import foreign_files
from loop.records.repository import Repository
from loop.service import telemetry
from loop.service.executors import make_executor
from loop.text import one_line
from loop.training import fence, gpu, selftest

if TYPE_CHECKING:
    from loop.agents.acp.inquiry import Found

ANSWER_S = 3.0
"""How long a model server may take to answer."""
ANSWER_MOST = 2**20
"""Bytes of its answer that are read."""
SYMBOLS = {"ok": "ok", "none": "--", "wrong": "!!"}


class Finding(Struct, frozen=True):
    """One line of the report. State `none`: absent, but not needed; `wrong`: it has to be mended."""

    what: str
    state: Literal["ok", "none", "wrong"]
    text: str


def report(folder: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The lines of the report. No line contains the value of a key."""
    yield Finding("version", "ok", f"autoresearch-tui {__version__}, Python {platform.python_version()}")
    settings: config.Settings | None = None
    try:
        repository = Repository.discover(folder)
        found = stranger.wishes(repository, repository.head(), {}, environ)
        settings = config.load(repository, repository.head(), {}, environ, found.names)
    except UsageError as error:
        yield Finding("repository", "wrong", str(error))
    else:
        yield from _repository(repository, settings, environ)
        if settings.executor != "local":
            yield _cluster(repository, settings)
        yield from _trackers(settings)
        if found.open:
            yield Finding("trust", "none", f"{found.ignored()}: {'; '.join(map(str, found.open))}")
        repository.close()
    yield from _agents(settings or config.Settings(), environ)
    yield from _machine(settings or config.Settings(), environ)


def _repository(
    repository: Repository, settings: config.Settings, environ: Mapping[str, str]
) -> Iterator[Finding]:
    yield Finding("repository", "ok", f"{repository.root}, HEAD {repository.head()[:7]}")
    yield Finding("trains", "ok", f"{settings.path} with `{_shown(settings.train_command)}`")
    for words in left_out.left_out(repository, settings):
        yield Finding("left out", "none", words)
    there = bool(foreign_files.program(repository.root, settings.program))
    words = "the agent's instructions" if there else "none: agents get no instructions of yours"
    yield Finding(settings.program or "program", "ok" if there else "none", words)
    cache = Path(environ.get("AUTORESEARCH_CACHE") or platformdirs.user_cache_dir("autoresearch-tui"))
    if not settings.prepare_command:
        yield Finding("data", "none", "no prepare_command: the trainer has to find its data")
    elif any(cache.glob("*/meta.json")):
        yield Finding("data", "ok", f"prepared in {cache}")
    else:
        yield Finding("data", "none", "not prepared yet: done before the first training, or now by `prepare`")


def _trackers(settings: config.Settings) -> Iterator[Finding]:
    """Whether the packages of the trackers are there. Where they keep things, and whether their keys are
    right, they say themselves when they start."""
    for name in settings.track:
        there = importlib.util.find_spec(name) is not None
        words = importlib.metadata.version(name) if there else f"pip install 'autoresearch-tui[{name}]'"
        yield Finding(name, "ok" if there else "wrong", words)


def _cluster(repository: Repository, settings: config.Settings) -> Finding:
    """Whether the cluster where trainings are to run can be used, and its machines."""
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder), "doctor")
        paths.create()
        try:
            executor = make_executor(settings, paths, repository)
        except UsageError as error:
            return Finding(settings.executor, "wrong", str(error))
        found = executor.describe()
        asyncio.run(executor.close())
    machines = (f"{m.name} ({m.seats} seat{'s' * (m.seats > 1)}, fence {m.fence})" for m in found)
    return Finding(settings.executor, "ok", ", ".join(machines))


def _shown(command: list[str]) -> str:
    return " ".join(command).replace(config.PYTHON, "python")


def _agents(settings: config.Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in KEYS:
        there = bool(environ.get(name))
        yield Finding(name, "ok" if there else "none", "set" if there else "not set")
    if where := environ.get("ANTHROPIC_BASE_URL"):
        yield _answers("ANTHROPIC_BASE_URL", where)
    url = settings.base_url or environ.get("OPENAI_BASE_URL", "")
    if url:
        yield _server(url, environ.get("OPENAI_API_KEY", ""))
    yield from _cli_agents(settings, environ)
    try:
        chosen, why = resolve(settings, environ)
    except UsageError as error:
        yield Finding("agent", "wrong", str(error))
        return
    asked = model(chosen, settings, environ)
    yield Finding("agent", "ok", f"{chosen}{f' ({asked})' if asked else ''}: {why}")


def _cli_agents(settings: config.Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What each known CLI agent says when it is asked. One that is chosen and does not work is to be mended.

    They are asked as they come, without the repository's settings: a look around must not run its commands.
    """
    for name, found in zip(CLI_AGENTS, asyncio.run(_asked(environ)), strict=True):
        chosen = name == settings.agent
        state: Literal["ok", "none", "wrong"] = "ok" if found.state == "ok" else "wrong" if chosen else "none"
        yield Finding(name, state, found.text)
    if settings.agent_command:
        command = settings.agent_command[0]
        path = shutil.which(command, path=environ.get("PATH"))
        yield Finding("agent_command", "ok" if path else "wrong", path or f"{command} is not on the PATH")


async def _asked(environ: Mapping[str, str]) -> list[Found]:
    """Ask all known CLI agents at the same time."""
    from loop.agents.acp.inquiry import inquire

    known = config.Settings()
    return await asyncio.gather(*(inquire(place(n, known, environ, offline=True)) for n in CLI_AGENTS))


def _answers(name: str, url: str) -> Finding:
    """Whether anything answers at a server's address, whatever it says."""
    where = _plain(url)
    try:
        _fetch(urllib.request.Request(where))
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Finding(name, "wrong", f"{where} cannot be reached ({reason})")
    return Finding(name, "ok", where)


def _plain(url: str) -> str:
    """An address without the user, password and query that may be in it."""
    try:
        shown = urlsplit(url)._replace(query="", fragment="")
    except ValueError:
        return "no address"
    return shown._replace(netloc=shown.netloc.rpartition("@")[2]).geturl()


def _server(url: str, key: str) -> Finding:
    """Whether the OpenAI-compatible server at `url` answers, and which models it has.

    The key goes to that address and nowhere else: a redirection is not followed.
    """
    where = _plain(url)
    try:
        request = urllib.request.Request(
            f"{where.rstrip('/')}/models", headers={"Authorization": f"Bearer {key or 'none'}"}
        )
        models = [str(served["id"]) for served in json.loads(_fetch(request))["data"]]
    except urllib.error.HTTPError as error:
        return Finding("base URL", "wrong", f"{where} answers {error.code} when asked for its models")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Finding("base URL", "wrong", f"{where} cannot be reached ({reason})")
    more = f" and {len(models) - 3} more" if len(models) > 3 else ""
    return Finding("base URL", "ok", f"{where} serves {', '.join(models[:3]) or 'no model'}{more}")


def _fetch(request: urllib.request.Request) -> bytes:
    """The beginning of a server's answer. Raises what urllib does.

    A server that sends a byte now and then never falls silent: it is waited for in a thread that may be left.
    """
    found = queue.SimpleQueue[bytes | Exception]()

    def ask() -> None:
        try:
            with urllib.request.build_opener(_NoRedirection).open(request, timeout=ANSWER_S) as answer:
                found.put(answer.read(ANSWER_MOST))
        except Exception as error:
            found.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        said = found.get(timeout=2 * ANSWER_S)
    except queue.Empty:
        raise TimeoutError(f"no whole answer in {2 * ANSWER_S:.0f} s") from None
    if isinstance(said, Exception):
        raise said
    return said


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _torch(settings: config.Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """What the torch that trains makes of this machine. It is asked where a GPU has a driver: that takes
    seconds, and without one it has nothing to say."""
    python = gpu.python_of(settings.command(settings.train_command)) or sys.executable
    if gpu.has_driver():
        facts = gpu.ask(python, environ)
        words = f"{facts.gpu}, {facts.memory_gb:.0f} GB, driver {facts.driver or 'unknown'}"
        yield Finding("GPU", "wrong" if facts.problem else "ok", facts.problem or words)
        if facts.compiler:
            yield Finding("compiler", "wrong", facts.compiler)
        if not telemetry.gpu_name():
            text = "not shown in the status line: pip install 'autoresearch-tui[cuda]'"
            yield Finding("GPU load", "none", text)
        yield Finding("torch", "ok" if facts.torch else "wrong", facts.torch or facts.problem)
    else:
        yield Finding("GPU", "none", "none: the small CPU profile is trained")
        try:
            yield Finding("torch", "ok", importlib.metadata.version("torch"))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("torch", "wrong", "not installed in this environment")
    if tested := selftest.last(environ):
        state: Literal["ok", "none", "wrong"] = "wrong" if tested.of("fail") else "ok"
        ago = (time.time() - tested.at) / 3600
        yield Finding("self test", state, f"{ago:.0f} h ago, {tested.machine}: {tested}")
    else:
        yield Finding("self test", "none", "not done yet: `autoresearch-tui selftest`")


def _machine(settings: config.Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    memory = psutil.virtual_memory().total / 2**30
    yield Finding(
        "machine", "ok", f"{psutil.cpu_count()} CPUs, {memory:.0f} GB, {platform.platform(terse=True)}"
    )
    level = str(fence.detect())
    words = "training runs behind the whole fence" if level == "full" else "see docs/sandbox.md"
    yield Finding("sandbox", "ok" if level == "full" else "none", f"{level}: {words}")
    yield from _torch(settings, environ)
    git = shutil.which("git")
    yield Finding(
        "git", "ok" if git else "none", git or "not on the PATH (not needed: dulwich writes the objects)"
    )


def main(environ: Mapping[str, str]) -> int:
    """Print the report; returns exit code 1 when something has to be mended."""
    findings = []
    for finding in report(Path.cwd(), environ):
        findings.append(finding)
        what, text = one_line(finding.what), one_line(finding.text, 2000)
        print(f" {SYMBOLS[finding.state]}  {what:<18} {text}", flush=True)
    return int(any(finding.state == "wrong" for finding in findings))
