"""Files of a repository that count before any training: autoresearch.toml, program.md, prepare.py.

The repository may be a stranger's: each of them may be a pipe, a device, a link to a file of the user's, or
hold text that steers a terminal.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path
from typing import Any

from loop.errors import UsageError
from loop.paths import leads_inside
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.text import one_line

TEXT_MOST = 2**20
"""Bytes that autoresearch.toml and program.md may have."""
OWN = Path(__file__).parents[2] / "nanogpt"
"""The trainer that came with this program."""
OWN_PROGRAMS = (OWN / "program.md", OWN.parent / "program.md")
"""Where the instructions that came with this program are: in a wheel, and in a clone."""


def toml(path: Path) -> dict[str, Any]:
    """What a TOML file says, each text in it on one line and safe to show; nothing when there is no file.

    Raises `UsageError`.
    """
    if not os.path.lexists(path):
        return {}
    content = read_shaped(path, TEXT_MOST)
    if content is None:
        raise UsageError(f"{path} is no plain file of at most 1 MB that can be read: mend or remove it")
    try:
        values: dict[str, Any] = _cleaned(tomllib.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # also what is not TOML or not UTF-8
        raise UsageError(f"{path}: {one_line(str(error)) or 'nested too deeply'}") from error
    return values


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value, most=TEXT_MOST)
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {one_line(key): _cleaned(item) for key, item in value.items()}
    return value


def program(root: Path, name: str) -> str:
    """The human's instructions to the agent; empty when the file is none, or too large to be some."""
    content = read_shaped(Path(os.path.realpath(root / name)), TEXT_MOST) if name else None
    return (content or b"").decode("utf-8", "replace")


def is_mild_program(root: Path, name: str, *, has_commands: bool) -> bool:
    """Whether a stranger's program.md may go to the agent.

    It must not lead out of the repository. An agent that runs commands (`has_commands`) may obey it, so it
    gets only the text that came with this program.
    """
    if not leads_inside(root / name, root):
        return False
    text = program(root, name)
    return not has_commands or not text or text in (program(own.parent, own.name) for own in OWN_PROGRAMS)


def is_our_trainer(repository: Repository, commit: str) -> bool:
    """Whether nanogpt/ holds nothing but what came with this program, and any train.py: to prepare data with
    it runs no stranger's code. That must be so at the commit and in the user's checkout, as both are run."""
    at_commit = {
        Path(name): repository.blob(sha)
        for name, _, sha in repository.files(commit)
        if name.startswith("nanogpt/")
    }
    with contextlib.suppress(OSError):
        checkout = [entry.name for entry in os.scandir(repository.root / "nanogpt")]
        contents = {
            Path("nanogpt", name): read_shaped(repository.root / "nanogpt" / name, TEXT_MOST)
            for name in checkout
            if name != "__pycache__"
        }
        theirs = [*at_commit.items(), *contents.items()]
        return bool(at_commit) and all(_is_ours(path, content) for path, content in theirs)
    return False


def _is_ours(path: Path, content: bytes | None) -> bool:
    own = read_shaped(OWN / path.relative_to("nanogpt"), TEXT_MOST)
    return path == Path("nanogpt/train.py") or (content is not None and content == own)
