"""A researcher who works by a script: says what a model behind a CLI agent does next.

It lowers X in train.py and writes proposal.md. A scenario is a way in which something goes wrong. The
researcher sees the agent's files itself, so that it need not understand what each agent says of them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

MARKER = Path("/var/tmp/autoresearch-outside-marker")
"""A file outside every scratch folder that commands and edits of some scenarios try to write."""
SECRET_FILE = Path("/var/tmp/autoresearch-other-repository/.autoresearch/t/secret.txt")
"""A file that no agent may read."""
NAMES = {
    "read": ("Read", "read_file", "read"),
    "edit": ("Edit", "replace", "edit", "apply_patch"),
    "write": ("Write", "write_file", "write", "apply_patch"),
    "run": ("Bash", "run_shell_command", "bash", "exec_command", "shell", "shell_command"),
}
"""What agents call their tools, by what they do."""
ARGUMENTS = {
    "path": ("file_path", "filePath", "path", "absolute_path"),
    "old": ("old_string", "oldString"),
    "new": ("new_string", "newString"),
    "content": ("content",),
    "command": ("command", "cmd"),
}
_FOLDER = re.compile(r"/[\w./-]*autoresearch-\d+\.\d+-\w+")
_X = re.compile(r"^X = ([\d.]+|= [\d.]+)", re.MULTILINE)


class Reply(Struct, frozen=True):
    """What the model says, and the tool that it calls; an empty name: none, its turn is over."""

    text: str
    tool: str = ""
    arguments: Any = None


class Seen(Struct, frozen=True):
    """What a request tells of the conversation."""

    body: str
    tools: Mapping[str, Any]
    """Tools that the agent offers, with the schemas of their arguments; a text where the input is free."""
    last_user: str
    """The last message of the user."""
    calls: int
    """Tool calls since then."""


def reply(scenario: str, seen: Seen) -> Reply:
    """The next move."""
    found = _FOLDER.findall(seen.body)
    if not found or _tool(seen.tools, "run") is None:
        return Reply("A title")  # agents also ask for a title, or which model to take
    folder = Path(found[-1])
    if scenario == "forever":
        return _call(seen.tools, "read", path=str(folder / "train.py"))
    if seen.calls == 0 and "Not submitted" not in seen.last_user:
        return _call(seen.tools, "read", path=str(folder / "train.py"))
    if seen.calls == 1 and (attempt := _attempt(scenario, folder, seen.tools)):
        return attempt
    return _work(scenario, folder, seen)


def _attempt(scenario: str, folder: Path, tools: Mapping[str, Any]) -> Reply | None:
    """What the agent must not do."""
    if scenario == "command":
        spy = f"touch {MARKER}; cat /proc/*/environ {SECRET_FILE} | tr '\\0' '\\n'"
        return _call(tools, "run", command=spy)
    if scenario == "outside":
        return _call(tools, "write", path=str(MARKER), content="outside\n")
    return None


def _work(scenario: str, folder: Path, seen: Seen) -> Reply:
    """Edit the file, write the proposal, then end the turn."""
    source = (folder / "train.py").read_text()
    x = _X.search(source)
    if x is None or seen.calls > 8:
        return Reply("I give up.")
    path = str(folder / "train.py")
    if x[1].startswith("=") and "Not submitted" in seen.last_user:
        return _call(seen.tools, "edit", path=path, old=x[0], new=x[0].replace("= =", "="))
    proposed = folder / "proposal.md"
    if not proposed.exists() and _untouched(folder, x[1]):
        new = f"{'= ' if scenario == 'correction' else ''}{float(x[1]) * random.uniform(0.8, 0.95):.4f}"
        return _call(seen.tools, "edit", path=path, old=x[0], new=f"X = {new}")
    if not proposed.exists():
        text = f"X to {x[1].strip('= ')}\nCloser to the minimum.\n"
        return _call(seen.tools, "write", path=str(proposed), content=text)
    return Reply("Done: **X** is lower.")


_first: dict[Path, str] = {}


def _untouched(folder: Path, x: str) -> bool:
    """Whether X is what it was when this folder was first seen."""
    return _first.setdefault(folder, x) == x


def _tool(tools: Mapping[str, Any], kind: str) -> str | None:
    return next((name for name in NAMES[kind] if name in tools), None)


def _call(tools: Mapping[str, Any], kind: str, **values: str) -> Reply:
    """A call of the tool that does this, with its arguments by the names that it gives them."""
    name = _tool(tools, kind)
    if name is None or name == "apply_patch":  # Codex has no tool to read, and patches files
        if kind == "read":
            return _call(tools, "run", command=f"cat {values['path']}")
        patch = _patch(**values)
        if name is None:
            return _call(tools, "run", command=f"apply_patch <<'EOF'\n{patch}\nEOF")
        return Reply("", "apply_patch", patch if tools["apply_patch"] == "free" else {"input": patch})
    schema = tools[name] or {}
    properties = schema.get("properties", {})
    given: dict[str, Any] = {}
    for key, text in values.items():
        given |= {n: text for n in ARGUMENTS[key] if n in properties}
    for needed in schema.get("required", []):
        given.setdefault(needed, {"boolean": False, "number": 1}.get(properties[needed].get("type"), "it"))
    return Reply(f"I {kind}.", name, given)


def _patch(path: str, old: str = "", new: str = "", content: str = "") -> str:
    if content:
        added = "".join(f"+{line}\n" for line in content.splitlines())
        return f"*** Begin Patch\n*** Add File: {path}\n{added}*** End Patch"
    rest = {"old": next(line for line in Path(path).read_text().splitlines() if line.startswith(old))}
    changed = rest["old"].replace(old, new, 1)
    return f"*** Begin Patch\n*** Update File: {path}\n@@\n-{rest['old']}\n+{changed}\n*** End Patch"


def dumped(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)
