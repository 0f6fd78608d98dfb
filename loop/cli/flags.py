"""The command line's flags for the settings of a run; `loop.config.Settings` describes each of them."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from loop import config
from loop.errors import UsageError
from loop.service import launch
from loop.setting import Setting


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """A flag for each of these settings, or for every setting that has one. Without its flag it is None."""
    for setting in config.described().values():
        if setting.name in names or (setting.flag and not names):
            _add(parser, setting)


def command(text: str) -> list[str]:
    """The words of a command that is one string. argparse puts this function's name in its error message."""
    return shlex.split(text)


def number_or_auto(text: str) -> int:
    """A number, or `auto`."""
    return config.AUTO if text == "auto" else int(text)


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name for name in re.split(r"[\s,]+", text) if name]


def _add(parser: argparse.ArgumentParser, setting: Setting) -> None:
    text = (setting.meta.description or "").replace("%", "%%")  # argparse fills in % by itself
    if setting.type is bool:
        parser.add_argument(setting.flag, dest=setting.name, action="store_true", default=None, help=text)
        return
    if setting.default not in (None, "", []) and "not set: " not in text:
        shown = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
        shown = "auto" if setting.name in config.NUMBER_OR_AUTO and shown == config.AUTO else shown
        text += f" (default: {shown})"
    if get_origin(setting.type) is Literal:
        parser.add_argument(setting.flag, dest=setting.name, choices=get_args(setting.type), help=text)
        return
    metavar = setting.unit.upper() or ("N" if setting.type is int else None)
    kind = command if get_origin(setting.type) is list else setting.type
    kind = names if setting.unit == "names" else kind
    kind = number_or_auto if setting.name in config.NUMBER_OR_AUTO else kind
    parser.add_argument(setting.flag, dest=setting.name, type=kind, metavar=metavar, help=text)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, or in the file of --flags-from. Raises `UsageError`."""
    file: Path | None = getattr(arguments, "flags_from", None)
    flags = {name: getattr(arguments, name, None) for name in config.described()}
    found = {name: value for name, value in flags.items() if value is not None}
    if not found.get("budget_s", 1.0) > 0:  # 0 is "not set" in a file; nan is no number of seconds either
        raise UsageError("--budget must be more than 0 seconds; without --budget the usual one counts")
    return {**launch.read_flags(file), **found} if file else found
