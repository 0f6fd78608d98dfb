"""The commands that open the cockpit: on a running engine, on a new one, on a recording, in a browser."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from loop.cli import left_out, trust, which_run
from loop.cli.flags import given
from loop.cli.new_run import MachineRuns
from loop.client import Connection, ConnectionLost, Runs
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.service import attach as attaching
from loop.service import launch

WARNING_S = 3.0
"""Seconds in which a warning can be read before the cockpit covers it."""


def attach_or_start(arguments: argparse.Namespace) -> int:
    """`autoresearch-tui`: the cockpit on the run's engine, which is started if none is alive."""
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageError("no terminal here: use `autoresearch-tui run --headless`")
    repository = Repository.discover(Path.cwd())
    running = None if arguments.tag else which_run.under_way(repository)
    paths = running or which_run.to_run(arguments.tag, repository)
    flags = given(arguments)
    if not attaching.engine_runs(paths):
        # This also refuses wrong settings.
        settings = trust.settings(repository, repository.head(), flags, trust=arguments.trust, ask=True)
        is_warned = left_out.tell(paths, repository, settings)
        if warning := launch.logout_warning(os.environ):
            print(f"autoresearch-tui: {warning}", file=sys.stderr)
        if is_warned or warning:
            time.sleep(WARNING_S)
    return _open(paths, lambda: launch.start_detached(paths, flags, trust=arguments.trust))


def attach(arguments: argparse.Namespace) -> int:
    """`attach`: the cockpit on an engine that is alive."""
    return _open(which_run.with_engine(arguments), None)


def replay(arguments: argparse.Namespace) -> int:
    """`replay`: the cockpit on the journal of a run, whether or not its engine is alive."""
    from loop.service.replay import Replay

    if arguments.speed < 0:
        raise UsageError("--speed must be 0 (all at once) or more")
    paths = which_run.existing(arguments)
    recording = Replay(paths, Repository.discover(Path.cwd()), arguments.speed)

    async def connect() -> Connection:
        return recording

    return _show(connect, recording.now)


def serve(arguments: argparse.Namespace) -> int:
    """`serve`: the cockpit on an engine that is alive, in a browser."""
    paths = which_run.with_engine(arguments)
    try:
        from tui import web
    except ImportError as error:
        raise UsageError("the browser needs textual-serve: pip install 'autoresearch-tui[web]'") from error
    return web.serve(paths.tag, arguments.host, arguments.port)


def _open(paths: RunPaths, start: Callable[[], None] | None) -> int:
    """Open the cockpit on the engine of this run.

    It connects again whenever it has lost the engine. `start` makes an engine if none is alive when it
    connects for the first time; one that was stopped later stays stopped.
    """
    first = True

    async def connect() -> Connection:
        nonlocal first
        if start and first and not attaching.engine_runs(paths):
            try:
                await asyncio.to_thread(start)
            except UsageError as error:
                raise ConnectionLost(str(error)) from error
        first = False
        return await attaching.connect(paths)

    return _show(connect, runs=MachineRuns(os.environ))


def _show(
    connect: Callable[[], Awaitable[Connection]],
    now: Callable[[], float] = time.time,
    runs: Runs | None = None,
) -> int:
    from tui.start import run_cockpit  # loads Textual, which no other command needs

    code: int = run_cockpit(connect, now, runs)
    return code
