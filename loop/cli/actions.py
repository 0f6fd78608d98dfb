"""What each command does, but for those that open the cockpit. Each function returns the exit code.

A module that only one command needs is imported when that command is given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loop import events as ev
from loop import processes
from loop.cli import left_out, status, trust, which_run
from loop.cli.flags import given
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records import journal, models
from loop.records.repository import Repository
from loop.service import attach, launch
from loop.state import RunState, fold
from loop.text import clean

STOP_PATIENCE_S = 15.0
"""How long an engine may take to end its trainer and itself."""


# --- the engine ---


def run(arguments: argparse.Namespace) -> int:
    """`run`: the engine in this process, with a line per step on standard output."""
    repository = Repository.discover(Path.cwd())
    try:
        paths = which_run.to_run(arguments.tag, repository)
        alone = arguments.headless
        settings = trust.settings(
            repository, repository.head(), given(arguments), trust=arguments.trust, ask=not alone, must=alone
        )
        left_out.tell(paths, repository, settings)
        lines = status.Lines(sys.stdout)
        return launch.run_engine(settings, paths, repository, headless=arguments.headless, say=lines.say)
    finally:
        repository.close()


def pause(arguments: argparse.Namespace) -> int:
    """`pause`: the engine starts nothing new after the training under way."""
    return _send(which_run.existing(arguments), ev.Pause())


def resume(arguments: argparse.Namespace) -> int:
    """`resume`: the engine goes on after a pause."""
    return _send(which_run.existing(arguments), ev.Resume())


def stop(arguments: argparse.Namespace) -> int:
    """`stop`: the engine ends after the training under way. With --now it is gone when this returns."""
    paths = which_run.existing(arguments)
    engine = attach.info(paths)
    code = _send(paths, ev.StopEngine(now=arguments.now))
    deadline = time.monotonic() + STOP_PATIENCE_S
    while arguments.now and engine and processes.alive(engine.pid):
        if time.monotonic() > deadline:
            raise UsageError(f"the engine is still there after {STOP_PATIENCE_S:.0f} s: see {paths.log}")
        time.sleep(0.05)
    return code


def _send(paths: RunPaths, command: ev.AnyCommand) -> int:
    """Send a command to the run's engine and print its answer."""

    async def send() -> str:
        client = await attach.connect(paths)
        try:
            return await client.send(command)
        finally:
            await client.close()

    print(clean(asyncio.run(send())))
    return 0


# --- what happened ---


def show_status(arguments: argparse.Namespace) -> int:
    """`status`: where the run stands, for people or, with --json, for programs."""
    paths = which_run.existing(arguments)
    state = asyncio.run(_state(paths))
    found = models.find(paths, state, state.incumbent) if state.incumbent else None
    model = str(found.model) if found else None
    summary = status.summary(state, time.time(), running=attach.engine_runs(paths), model=model)
    print(json.dumps(summary, indent=2) if arguments.json else status.words(summary))
    return 0


async def _state(paths: RunPaths) -> RunState:
    """The state of the run: from its engine if one is alive, else from its journal."""
    if not attach.engine_runs(paths):
        return fold(journal.read(paths.journal))
    client = await attach.connect(paths)
    await client.close()
    return client.state


def show_log(arguments: argparse.Namespace) -> int:
    """`logs`: what the engine did, a line per step."""
    from loop.cli import logs

    logs.show(which_run.existing(arguments), sys.stdout, arguments.follow, attach.engine_runs)
    return 0


def write_report(arguments: argparse.Namespace) -> int:
    """`report`: write the page and print where it is, or print a table."""
    from loop.cli import report

    paths = which_run.existing(arguments)
    if arguments.table:
        print(report.table(paths, arguments.table), end="")
    else:
        folder = arguments.out or paths.folder / "report"
        print(clean(str(report.write(paths, Repository.discover(Path.cwd()), folder))))
    return 0


def finish(arguments: argparse.Namespace) -> int:
    """`finish`: make the clean branch and the folder, and print what was made."""
    from loop.cli import finish

    paths = which_run.existing(arguments)
    repository = Repository.discover(Path.cwd())
    try:
        state = asyncio.run(_state(paths))
        folder = arguments.out or paths.folder / "finish"
        for line in finish.finish(paths, repository, state, folder, arguments.branch):
            print(clean(line))
    finally:
        repository.close()
    return 0


def import_run(arguments: argparse.Namespace) -> int:
    """`import`: make a finished run of another tool's results, and print what it holds."""
    from loop.cli import import_run

    repository = Repository.discover(Path.cwd())
    try:
        for line in import_run.import_run(repository, arguments.file, arguments.branch, arguments.tag):
            print(clean(line))
    finally:
        repository.close()
    return 0


def measure_noise(arguments: argparse.Namespace) -> int:
    """`noise`: train the same code several times and say how much its number moves."""
    from loop.cli import noise

    asyncio.run(noise.main(arguments.tag, arguments.runs, given(arguments), arguments.trust))
    return 0


# --- models ---


def export_model(arguments: argparse.Namespace) -> int:
    """`model export`: write a kept model into a new folder and print where."""
    from loop.cli import model

    n, folder = model.numbered(arguments.words, "DIR")
    paths = which_run.existing(arguments)
    repository = Repository.discover(Path.cwd())
    try:
        written = model.export(paths, repository, asyncio.run(_state(paths)), n, Path(folder))
        print(clean(str(written)))
    finally:
        repository.close()
    return 0


def sample_model(arguments: argparse.Namespace) -> int:
    """`sample`: print how a kept model continues a text."""
    from loop.cli import model

    n, prompt = model.numbered(arguments.words, "TEXT")
    paths = which_run.existing(arguments)

    async def sample() -> str:
        repository = Repository.discover(Path.cwd())
        try:
            return await model.sample(
                paths,
                repository,
                await _state(paths),
                n,
                prompt,
                tokens=arguments.tokens,
                temperature=arguments.temperature,
                seed=arguments.seed,
                trust=arguments.trust,
            )
        finally:
            repository.close()

    print(asyncio.run(sample()))
    return 0


# --- setting up ---


def check_setup(arguments: argparse.Namespace) -> int:
    """`doctor`: say what is set up here."""
    from loop.cli import doctor

    return doctor.main(os.environ)


def test_machine(arguments: argparse.Namespace) -> int:
    """`selftest`: try what a training needs, a line for each; exit code 1 when something fails."""
    from loop.cli import selftest

    return asyncio.run(selftest.main(arguments.trust))


def make_repository(arguments: argparse.Namespace) -> int:
    """`init`: make a new research repository."""
    from loop.cli import new_repository

    folder: Path = arguments.folder
    for path in new_repository.create(folder):
        print(f"  {path}")
    shown = clean(str(folder))
    print(f"{shown} is ready: cd {shown}, look at program.md, and start `autoresearch-tui`")
    return 0


def prepare(arguments: argparse.Namespace) -> int:
    """`prepare`: prepare the training data now, so that the first training does not have to wait for it."""
    repository = Repository.discover(Path.cwd())
    settings = trust.settings(repository, repository.head(), {}, trust=arguments.trust, ask=True)
    if not settings.prepare_command:
        raise UsageError("this repository has no `prepare_command`: there is nothing to prepare")
    command = settings.command(settings.prepare_command)
    words = [*command, *arguments.passed_on]
    with tempfile.TemporaryDirectory() as compiled:  # a __pycache__ that lies in the repository is not run
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        return subprocess.run(words, cwd=repository.root, env=environment).returncode
