"""Files of a repository that count before any training: autoresearch.toml, program.md, prepare.py.

The repository may be a stranger's: each of them may be a pipe, a device, a link to a file of the user's, or
hold text that steers a terminal.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from loop.errors import UsageError
from loop.paths import leads_inside
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.text import one_line

SETTINGS_MOST = 2**16
"""Bytes that autoresearch.toml may have."""
DOTS_MOST = 100
"""Dots outside texts that a line of it may have: a key such as `a.a.a` with fifty thousand parts takes
a minute to read, and one with twice as many takes four."""
_TEXT = re.compile(r'"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*')
TEXT_MOST = 2**20
"""Bytes that program.md and a file of the trainer may have."""
OWN = Path(__file__).parents[2] / "nanogpt"
"""The trainer that came with this program."""
TRAINER = "nanogpt/train.py"
"""Its one file that agents edit."""
PROGRAM = "program.md"
"""Where the human's instructions usually are, committed or not."""
OWN_PROGRAMS = (OWN / "program.md", OWN.parent / "program.md")
"""Where the instructions that came with this program are: in a wheel, and in a clone."""


def toml(path: Path) -> dict[str, Any]:
    """What a TOML file says, each text in it on one line and safe to show; nothing when there is no file.

    Raises `UsageError`.
    """
    if not os.path.lexists(path):
        return {}
    content = read_shaped(path, SETTINGS_MOST)
    if content is None:
        raise UsageError(f"{path} is no plain file of at most 64 KB that can be read: mend or remove it")
    try:
        text = content.decode("utf-8")
        if any(line.count(".") > DOTS_MOST for line in _TEXT.sub("", text).split("\n")):
            raise UsageError(f"{path} has a line with more than {DOTS_MOST} dots: mend it")
        values: dict[str, Any] = _cleaned(tomllib.loads(text))
    except (ValueError, RecursionError) as error:  # also what is not TOML or not UTF-8
        raise UsageError(f"{path}: {one_line(str(error)) or 'nested too deeply'}") from error
    return values


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value, most=SETTINGS_MOST)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {one_line(key): _cleaned(item) for key, item in value.items()}
    return value


def program(root: Path, name: str) -> str:
    """The human's instructions to the agent; empty when the file is none, or too large to be some."""
    content = read_shaped(Path(os.path.realpath(root / name)), TEXT_MOST) if name else None
    return (content or b"").decode("utf-8", "replace")


def is_mild_program(repository: Repository, commit: str, name: str, *, has_commands: bool) -> bool:
    """Whether a stranger's program.md may go to the agent.

    It must not lead out of the repository, nor to a file in it that is not committed: git's own settings with
    a token, a file of keys. An agent that runs commands (`has_commands`) may obey it, so it gets only the
    text that came with this program.
    """
    root = repository.root
    if not leads_inside(root / name, root):
        return False
    path = os.path.relpath(os.path.realpath(root / name), root)
    if path != PROGRAM and os.path.lexists(root / name) and repository.read(commit, path) is None:
        return False
    text = program(root, name)
    return not has_commands or not text or text in (program(own.parent, own.name) for own in OWN_PROGRAMS)


def is_our_trainer(repository: Repository, commit: str, editable: str) -> bool:
    """Whether nanogpt/ holds nothing but what came with this program, and any train.py: to prepare data with
    it, and to measure with it, runs no stranger's code. That must be so at the commit and in the user's
    checkout, as both are run, and stay so: of these files agents may edit train.py alone."""
    if Path(editable).parts[:1] == ("nanogpt",) and editable != TRAINER:
        return False
    at_commit = [(name, sha) for name, _, sha in repository.files(commit) if name.startswith("nanogpt/")]
    if not at_commit or not all(_may_be_ours(name) for name, _ in at_commit):
        return False
    with contextlib.suppress(OSError):
        checkout = [entry.name for entry in os.scandir(repository.root / "nanogpt")]
        contents = (
            (f"nanogpt/{name}", read_shaped(repository.root / "nanogpt" / name, TEXT_MOST))
            for name in checkout
            if name != "__pycache__"
        )
        return all(_is_ours(name, repository.blob(sha)) for name, sha in at_commit) and all(
            _is_ours(name, content) for name, content in contents
        )
    return False


def _may_be_ours(name: str) -> bool:
    """Whether the trainer that came with this program has a file of this name."""
    return (OWN.parent / name).is_file()


def _is_ours(name: str, content: bytes | None) -> bool:
    own = read_shaped(OWN.parent / name, TEXT_MOST)
    return name == TRAINER or (content is not None and content == own)
