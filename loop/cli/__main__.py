"""The `autoresearch-tui` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path

from loop import __version__, config
from loop import events as ev
from loop.cli import status
from loop.cli.flags import Parser, add_run_flags, forward, given
from loop.client import Client, Connection, ConnectionLost, Refused
from loop.errors import JournalError, UsageError
from loop.paths import RunPaths, check_tag, new_tag, newest, tags
from loop.records import journal
from loop.records.repository import Repository
from loop.service import attach, launch
from loop.state import RunState, fold


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code. What the user can mend is one sentence and exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.action(arguments)
        return code
    except (UsageError, JournalError, ConnectionLost, Refused) as error:
        print(f"autoresearch-tui: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- the run ---


def _open(arguments: argparse.Namespace) -> int:
    """Attach to the run's engine, or start one, and show the cockpit."""
    if not sys.stdout.isatty() or not sys.stdin.isatty():
        raise UsageError("no terminal here: use `autoresearch-tui run --headless`")
    paths, repository = _begin(arguments)
    if not attach.alive(paths):
        config.load(repository, repository.head(), given(arguments), os.environ)  # say what is wrong here
        if warning := launch.warning(os.environ):
            print(f"autoresearch-tui: {warning}", file=sys.stderr)
            time.sleep(3)  # before the cockpit covers it
    return _cockpit(paths, lambda: launch.start_detached(paths, forward(arguments, paths.tag)))


def _run(arguments: argparse.Namespace) -> int:
    """The engine in the foreground."""
    paths, repository = _begin(arguments)
    settings = config.load(repository, repository.head(), given(arguments), os.environ)
    lines = status.Lines(sys.stdout)
    try:
        return launch.run_engine(settings, paths, repository, headless=arguments.headless, say=lines.say)
    finally:
        repository.close()


def _begin(arguments: argparse.Namespace) -> tuple[RunPaths, Repository]:
    """The run that is meant: the given tag, else the newest one that runs, else a new one."""
    repository = Repository.discover(Path.cwd())
    repository.head()
    if arguments.tag:
        return RunPaths(repository.root, check_tag(arguments.tag)), repository
    known = tags(repository.root)
    running = [tag for tag in known if attach.alive(RunPaths(repository.root, tag))]
    if running and arguments.action is _open:
        return RunPaths(repository.root, running[-1]), repository
    return RunPaths(repository.root, new_tag(date.today(), {*known, *repository.tags()})), repository


def _cockpit(paths: RunPaths, start: Callable[[], None] | None) -> int:
    """The cockpit on a live engine; `start` makes one the first time."""
    first = True

    async def connect() -> Connection:
        nonlocal first
        if start and first and not attach.alive(paths):
            try:
                await asyncio.to_thread(start)
            except UsageError as error:
                raise ConnectionLost(str(error)) from error
        first = False
        return await attach.connect(paths)

    return _show(connect)


def _show(connect: Callable[[], Awaitable[Connection]], now: Callable[[], float] = time.time) -> int:
    from tui.start import run_cockpit

    code: int = run_cockpit(connect, now)
    return code


def _attach(arguments: argparse.Namespace) -> int:
    paths = _known(arguments)
    _check_alive(paths)
    return _cockpit(paths, None)


def _check_alive(paths: RunPaths) -> None:
    if not attach.alive(paths):
        raise UsageError(
            f"no engine runs for {paths.tag}: start one with `autoresearch-tui --tag {paths.tag}`, "
            f"or look at it with `autoresearch-tui replay {paths.tag}`"
        )


def _replay(arguments: argparse.Namespace) -> int:
    """The cockpit on a run that is over, or on what is on disk of one that is not."""
    from loop.service.replay import Replay

    if arguments.speed < 0:
        raise UsageError("--speed must be 0 (all at once) or more")
    paths = _known(arguments)
    repository = Repository.discover(Path.cwd())
    recording = Replay(paths, repository, arguments.speed)

    async def connect() -> Connection:
        return recording

    return _show(connect, recording.now)


def _serve(arguments: argparse.Namespace) -> int:
    """The cockpit in a browser."""
    paths = _known(arguments)
    _check_alive(paths)
    try:
        from tui import web
    except ImportError as error:
        raise UsageError("the browser needs textual-serve: pip install 'autoresearch-tui[web]'") from error
    return web.serve(paths.tag, arguments.host, arguments.port)


# --- questions and commands from another shell ---


def _report(arguments: argparse.Namespace) -> int:
    from loop.cli import report

    paths = _known(arguments)
    if arguments.table:
        print(report.table(paths, arguments.table), end="")
    else:
        folder = arguments.out or paths.folder / "report"
        print(report.write(paths, Repository.discover(Path.cwd()), folder))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    paths = _known(arguments)
    state = asyncio.run(_state(paths))
    summary = status.summary(state, time.time(), running=attach.alive(paths))
    print(json.dumps(summary, indent=2) if arguments.json else status.words(summary))
    return 0


async def _state(paths: RunPaths) -> RunState:
    if not attach.alive(paths):
        return fold(journal.read(paths.journal))
    client = await attach.connect(paths)
    await client.close()
    return client.state


def _pause(arguments: argparse.Namespace) -> int:
    return _send(arguments, ev.Pause())


def _resume(arguments: argparse.Namespace) -> int:
    return _send(arguments, ev.Resume())


def _stop(arguments: argparse.Namespace) -> int:
    """Stop the engine; with --now, return only when it is gone."""
    paths = _known(arguments)
    engine = attach.info(paths)
    code = _send(arguments, ev.StopEngine(now=arguments.now))
    deadline = time.monotonic() + 15
    while arguments.now and engine and attach.exists(engine.pid):
        if time.monotonic() > deadline:
            raise UsageError(f"the engine is still there after 15 s: see {paths.log}")
        time.sleep(0.05)
    return code


def _send(arguments: argparse.Namespace, command: ev.AnyCommand) -> int:
    async def send() -> str:
        client: Client = await attach.connect(paths)
        try:
            return await client.send(command)
        finally:
            await client.close()

    paths = _known(arguments)
    print(asyncio.run(send()))
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    """Prepare the training data now, so that the first run does not have to."""
    repository = Repository.discover(Path.cwd())
    settings = config.load(repository, repository.head(), {}, os.environ)
    if not settings.prepare_command:
        raise UsageError("this repository has no `prepare_command`: there is nothing to prepare")
    command = settings.command(settings.prepare_command)
    return subprocess.run([*command, *arguments.arguments], cwd=repository.root).returncode


def _doctor(arguments: argparse.Namespace) -> int:
    from loop.cli import doctor

    return doctor.main(os.environ)


def _noise(arguments: argparse.Namespace) -> int:
    """Measure how much the number moves when nothing changes."""
    from loop.cli import noise

    flags = {"budget_s": arguments.budget_s, "sandbox": arguments.sandbox}
    asyncio.run(noise.main(arguments.tag, arguments.runs, flags))
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    """What the engine did, a line per step."""
    from loop.cli import logs

    logs.show(_known(arguments), sys.stdout, arguments.follow, attach.alive)
    return 0


def _init(arguments: argparse.Namespace) -> int:
    """A new research repository."""
    from loop.cli import new_repository

    folder: Path = arguments.folder
    for path in new_repository.create(folder):
        print(f"  {path}")
    print(f"{folder} is ready: cd {folder}, look at program.md, and start `autoresearch-tui`")
    return 0


def _known(arguments: argparse.Namespace) -> RunPaths:
    """The run with the given tag, or the newest one."""
    repository = Repository.discover(Path.cwd())
    tag = newest(repository.root, arguments.tag)
    if tag is None:
        raise UsageError("no run here yet: start one with `autoresearch-tui`")
    return RunPaths(repository.root, tag)


# --- flags ---


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="autoresearch-tui",
        description="An autonomous LLM-pretraining researcher in your terminal. Without a command: "
        "attach to the run's engine, or start one, and open the cockpit.",
    )
    parser.add_argument("--version", action="version", version=f"autoresearch-tui {__version__}")
    add_run_flags(parser)
    parser.set_defaults(action=_open, headless=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    run = _command(commands, "run", _run, "the engine in the foreground, a line per step")
    add_run_flags(run)
    run.add_argument("--headless", action="store_true", help="end with exit code 0 when a limit is reached")
    _command(commands, "attach", _attach, "open the cockpit on a running engine")
    status = _command(commands, "status", _status, "where the run stands")
    status.add_argument("--json", action="store_true", help="for programs")
    _command(commands, "pause", _pause, "let the run under way end, then start nothing new")
    _command(commands, "resume", _resume, "go on after a pause")
    stop = _command(commands, "stop", _stop, "stop the engine after the run under way")
    stop.add_argument("--now", action="store_true", help="also end the run under way; it starts again later")
    logs = _command(commands, "logs", _logs, "what the engine did, a line per step")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the engine stops")
    replay = _command(commands, "replay", _replay, "look at a run without an engine")
    replay.add_argument("tag", nargs="?", help="which run (default: the newest)")
    replay.add_argument(
        "--speed", type=float, default=0.0, metavar="X", help="as it went, X times as fast (0: all at once)"
    )
    serve = _command(commands, "serve", _serve, "the cockpit of a running engine in a browser")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    written = _command(commands, "report", _report, "write a page about the run: plot, keeps, diffs, caveats")
    written.add_argument("--out", type=Path, metavar="DIR", help="where (default: .autoresearch/TAG/report)")
    for kind in ("json", "csv"):
        text = f"print every experiment as {kind.upper()} instead"
        written.add_argument(f"--{kind}", dest="table", action="store_const", const=kind, help=text)
    noise = _command(commands, "noise", _noise, "how much the number moves here when nothing changes")
    noise.add_argument("--runs", type=int, default=3, metavar="K", help="runs of each kind (default: 3)")
    noise.add_argument("--budget", dest="budget_s", type=float, metavar="S", help="training seconds a run")
    noise.add_argument("--sandbox", choices=("off", "auto", "require"), help="the fence around training")
    for name in ("attach", "status", "pause", "resume", "stop", "logs", "serve", "report", "noise"):
        commands.choices[name].add_argument("--tag", help="which run (default: the newest)")
    _command(commands, "doctor", _doctor, "what is set up here: keys, servers, agents, data, GPU")
    new = _command(commands, "init", _init, "a new research repository, with the trainer and program.md")
    new.add_argument("folder", type=Path, metavar="DIR")
    prepare = _command(commands, "prepare", _prepare, "download and tokenise the training data")
    prepare.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to prepare.py")
    prepare.add_argument("--tag", help=argparse.SUPPRESS)
    return parser


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, action: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(action=action)
    return parser


if __name__ == "__main__":
    sys.exit(main())
