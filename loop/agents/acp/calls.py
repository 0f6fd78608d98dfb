"""What a CLI agent's tool calls look like in the transcript, and which files they name. Pure."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acp.schema import TextContentBlock, ToolCallProgress, ToolCallStart, ToolCallUpdate
from msgspec import Struct, field

Told = ToolCallStart | ToolCallProgress | ToolCallUpdate
PATHS = ("file_path", "filePath", "path", "abs_path", "absolute_path")
"""Names of the argument of a tool that is a file."""
PATHS_MOST = 1000
"""Files that a call may name. One that names more is treated as if it named them all."""
_STREAMED = re.compile(rf'"(?:{"|".join(PATHS)})"\s*:\s*("(?:[^"\\]|\\.)*")')
_KINDS = {
    "read": "read", "readfile": "read", "grep": "search", "glob": "search", "write": "edit",
    "writefile": "edit", "edit": "edit", "strreplacefile": "edit", "bash": "execute", "shell": "execute",
}  # fmt: skip
"""Kinds of the tools of agents that tell a tool's name in the title and no kind."""


class Call(Struct):
    """A tool call, with all that has been told of it."""

    id: str
    """Id of its message in the transcript."""
    title: str = ""
    kind: str = ""
    paths: list[str] = field(default_factory=list)
    shown: bool = False

    def learn(self, told: Told) -> None:
        """Take over what a message tells of the call."""
        self.title = told.title or self.title
        self.kind = str(told.kind or self.kind or _kind(self.title))
        self.paths = list(dict.fromkeys([*self.paths, *_paths(told)]))
        if len(self.paths) > PATHS_MOST:
            self.paths = [*self.paths[:PATHS_MOST], "/"]

    def line(self, folder: Path) -> str:
        """The call in one line, with paths as they are seen from the folder."""
        title = short(self.title, folder)
        names = list(dict.fromkeys(short(path, folder) for path in self.paths if Path(path) != folder))
        if title in names or not title:
            return f"{self.kind or 'tool'} {title or ', '.join(names)}".strip()
        if names and not any(Path(name).name in title for name in names):
            return f"{title} {', '.join(names)}"
        return title


def result(told: ToolCallProgress, folder: Path) -> str:
    """The first line of a tool's result that says something, and how many there are."""
    texts = [c.content.text for c in told.content or [] if c.type == "content" and _is_text(c.content)]
    output = told.raw_output
    if isinstance(output, dict):
        output = output.get("output") or output.get("error")
    if not texts and isinstance(output, str):
        texts = [output]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("```", "<path>", "<type>", "<content>"))]
    if not lines:
        return "done" if told.status == "completed" else str(told.status)
    more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
    return f"{short(lines[0], folder)}{more}"


def _is_text(content: Any) -> bool:
    return isinstance(content, TextContentBlock)


def short(text: str, folder: Path) -> str:
    """A title or a path without the scratch folder in it, on one line."""
    for prefix in (f"{folder}/", f"{str(folder)[1:]}/"):  # opencode writes it without the first slash
        text = text.replace(prefix, "")
    return " ".join(text.split())[:300]


def _kind(title: str) -> str:
    """The kind of a tool that is known by the first word of its call's title; empty when it is not."""
    word = re.split(r"[^A-Za-z_]", title, maxsplit=1)[0]
    return _KINDS.get(word.replace("_", "").lower(), "")


def _paths(told: Told) -> Iterator[str]:
    """Every path that a message names, wherever agents put it."""
    yield from (location.path for location in told.locations or [])
    yield from (found.path for found in told.content or [] if found.type == "diff")
    given = told.raw_input if isinstance(told.raw_input, dict) else {}
    yield from (given[key] for key in PATHS if isinstance(given.get(key), str))
    if told.status not in ("completed", "failed"):  # some stream the arguments as text
        for found in told.content or []:
            if found.type == "content" and isinstance(found.content, TextContentBlock):
                for path in _STREAMED.findall(found.content.text):
                    with contextlib.suppress(ValueError):
                        yield str(json.loads(path))
