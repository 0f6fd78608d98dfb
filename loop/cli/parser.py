"""The words of the command line: every command with its flags, and the function that carries it out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from loop import __version__
from loop.cli import actions, cockpit
from loop.cli.flags import Parser, add_settings

OF_A_RUN = (
    "attach", "status", "pause", "resume", "stop", "logs", "serve", "report", "finish", "noise", "model",
    "sample",
)  # fmt: skip
"""Commands about a run that exists: --tag names it."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The parsed arguments; `action` is the function to call with them.

    `prepare` passes on what is no flag of its own. argparse's REMAINDER would refuse flags among that.
    """
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown and arguments.action is not actions.prepare:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.passed_on = unknown[1:] if unknown[:1] == ["--"] else unknown
    return arguments


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `action` to its function."""
    parser = Parser(
        prog="autoresearch-tui",
        description="An autonomous LLM-pretraining researcher in your terminal. Without a command: "
        "attach to the run's engine, or start one, and open the cockpit.",
    )
    parser.add_argument("--version", action="version", version=f"autoresearch-tui {__version__}")
    _add_run_flags(parser)
    parser.set_defaults(action=cockpit.attach_or_start)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _add_run(commands)
    _command(commands, "attach", cockpit.attach, "open the cockpit on a running engine")
    status = _command(commands, "status", actions.show_status, "where the run stands")
    status.add_argument("--json", action="store_true", help="for programs")
    _command(commands, "pause", actions.pause, "let the training under way end, then start nothing new")
    _command(commands, "resume", actions.resume, "go on after a pause")
    stop = _command(commands, "stop", actions.stop, "stop the engine after the training under way")
    stop.add_argument("--now", action="store_true", help="also end the training; it starts again later")
    logs = _command(commands, "logs", actions.show_log, "what the engine did, a line per step")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the engine stops")
    _add_cockpits(commands)
    _add_reports(commands)
    _add_models(commands)
    _command(commands, "doctor", actions.check_setup, "what is set up here: keys, servers, agents, data, GPU")
    text = "try all that a training needs on this machine, behind the fence, in about a minute"
    _command(commands, "selftest", actions.test_machine, text)
    text = "a new research repository, with the trainer and program.md"
    new = _command(commands, "init", actions.make_repository, text)
    new.add_argument("folder", type=Path, metavar="DIR")
    prepare = _command(commands, "prepare", actions.prepare, "download and tokenise the training data")
    prepare.epilog = "All other arguments are passed on to prepare.py."
    prepare.add_argument("--tag", help=argparse.SUPPRESS)
    for name in ("prepare", "noise", "sample", "selftest"):
        _add_trust(commands.choices[name])
    for name in OF_A_RUN:
        commands.choices[name].add_argument("--tag", help="which run (default: the newest)")
    return parser


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the two commands that start an engine."""
    parser.add_argument(
        "--tag", help="name of the run and of its branch autoresearch/TAG (default: today's date)"
    )
    add_settings(parser)
    _add_trust(parser)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="allow, now and later, what this repository's files would run, open in the fence, read or send",
    )


def _add_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = _command(commands, "run", actions.run, "the engine in the foreground, a line per step")
    _add_run_flags(run)
    text = "end instead of pausing: with exit code 0 at a limit, with 1 where it cannot go on"
    run.add_argument("--headless", action="store_true", help=text)
    run.add_argument("--flags-from", type=Path, help=argparse.SUPPRESS)  # how `start_detached` passes them on


def _add_cockpits(commands: argparse._SubParsersAction[Parser]) -> None:
    """The commands `replay` and `serve`, which open the cockpit too."""
    replay = _command(commands, "replay", cockpit.replay, "look at a run without an engine")
    replay.add_argument("tag", nargs="?", help="which run (default: the newest)")
    replay.add_argument(
        "--speed", type=float, default=0.0, metavar="X", help="as it went, X times as fast (0: all at once)"
    )
    serve = _command(commands, "serve", cockpit.serve, "the cockpit of a running engine in a browser")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")


def _add_reports(commands: argparse._SubParsersAction[Parser]) -> None:
    """The commands `report`, `finish`, `import` and `noise`."""
    report = _command(
        commands, "report", actions.write_report, "write a page about the run: plot, keeps, diffs, caveats"
    )
    report.add_argument("--out", type=Path, metavar="DIR", help="where (default: .autoresearch/TAG/report)")
    for kind in ("json", "csv"):
        text = f"print every experiment as {kind.upper()} instead"
        report.add_argument(f"--{kind}", dest="table", action="store_const", const=kind, help=text)
    text = "take the result home: a clean branch, a pull request's text, a patch, the model"
    finish = _command(commands, "finish", actions.finish, text)
    finish.add_argument("--out", type=Path, metavar="DIR", help="where (default: .autoresearch/TAG/finish)")
    finish.add_argument("--branch", metavar="NAME", help="name of the new branch (default: TAG-keeps)")
    text = "make a finished run of another tool's results.tsv and its git history"
    imported = _command(commands, "import", actions.import_run, text)
    imported.add_argument("file", type=Path, metavar="RESULTS.TSV", help="such as karpathy/autoresearch's")
    imported.add_argument("--branch", metavar="NAME", help="the branch that the other tool worked on")
    imported.add_argument("--tag", help="name of the new run (default: the branch's last word, or the date)")
    noise = _command(
        commands, "noise", actions.measure_noise, "how much the number moves here when nothing changes"
    )
    noise.add_argument("--runs", type=int, default=3, metavar="K", help="trainings of each kind (default: 3)")
    add_settings(noise, "budget_s", "sandbox")


def _add_models(commands: argparse._SubParsersAction[Parser]) -> None:
    """Commands about models that are kept. `[N] WHAT` is one list, because argparse cannot tell them apart
    where a flag comes first."""
    text = "write a kept model, the code that trained it and a README into a new folder"
    model = _command(commands, "model", actions.export_model, text)
    model.usage = "%(prog)s export [N] DIR [--tag TAG]"
    model.add_argument("what", choices=["export"], metavar="export", help="what to do with it")
    model.add_argument(
        "words", nargs="+", metavar="[N] DIR", help="the experiment (default: the incumbent) and the folder"
    )
    sample = _command(commands, "sample", actions.sample_model, "let a kept model continue a text")
    sample.usage = "%(prog)s [N] TEXT [--tokens K] [--temperature T] [--seed S] [--tag TAG]"
    sample.add_argument(
        "words", nargs="+", metavar="[N] TEXT", help="the experiment (default: the incumbent) and the text"
    )
    sample.add_argument("--tokens", type=int, default=100, metavar="K", help="at most so many (default: 100)")
    sample.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0: always the likeliest (default: 0.8)"
    )
    sample.add_argument("--seed", type=int, default=1337, metavar="S", help="of the draws (default: 1337)")


def _command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    action: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(action=action)
    return parser
