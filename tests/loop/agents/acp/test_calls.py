"""What a tool call looks like, and which files it names. The updates are what real agents have sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from acp.schema import ToolCallProgress, ToolCallStart

from loop.agents.acp.calls import Call, result

FOLDER = Path("/tmp/autoresearch-1.2-abc")


def call(*updates: dict[str, Any]) -> Call:
    made = Call("id")
    for update in updates:
        kind = ToolCallStart if update.get("title") and "status" not in update else ToolCallProgress
        name = "tool_call" if kind is ToolCallStart else "tool_call_update"
        made.learn(kind.model_validate({"sessionUpdate": name, "toolCallId": "t", "title": "", **update}))
    return made


CLAUDE = [
    {"title": "Read File", "kind": "read", "rawInput": {}},
    {
        "title": "Read train.py",
        "status": "pending",
        "rawInput": {"file_path": f"{FOLDER}/train.py"},
        "locations": [{"path": f"{FOLDER}/train.py", "line": 1}],
    },
]
OPENCODE = [
    {"title": "read", "kind": "read", "rawInput": {}},
    {"title": "read", "status": "in_progress", "rawInput": {"filePath": f"{FOLDER}/train.py"}},
]


@pytest.mark.parametrize(
    ("updates", "line"),
    [
        (CLAUDE, "Read train.py"),
        (OPENCODE, "read train.py"),
        ([{"title": f"Read file '{FOLDER}/train.py'", "kind": "read"}], "Read file 'train.py'"),
        ([{"title": "train.py", "kind": "read", "locations": [{"path": f"{FOLDER}/train.py"}]}],
         "read train.py"),
        ([{"title": "Editing files", "kind": "edit", "content": [
            {"type": "diff", "path": f"{FOLDER}/notes.md", "newText": "x"}]}], "Editing files notes.md"),
        ([{"title": "ls\n  -la", "kind": "execute", "locations": [{"path": str(FOLDER)}]}], "ls -la"),
        ([{"title": f"{str(FOLDER)[1:]}/train.py", "kind": "read"}], "train.py"),
    ],
)  # fmt: skip
def test_a_call_is_one_readable_line(updates: list[dict[str, Any]], line: str) -> None:
    assert call(*updates).line(FOLDER) == line


def test_a_path_may_stand_in_streamed_arguments_only() -> None:
    """Kimi tells no kind and no location: the tool is in the title, the path in the text of its arguments."""
    text = '{"path": "/tmp/autoresearch-1.2-abc/proposal.md", "content": "caf\\u00e9 \\"x\\""}'
    content = [{"type": "content", "content": {"type": "text", "text": text}}]
    made = call({"title": "WriteFile: proposal.md", "content": content})
    assert (made.kind, made.paths) == ("edit", ["/tmp/autoresearch-1.2-abc/proposal.md"])


def test_a_path_in_a_result_is_not_one_that_the_call_names() -> None:
    content = [{"type": "content", "content": {"type": "text", "text": '"path": "/etc/passwd"'}}]
    assert call({"title": "x", "status": "completed", "content": content}).paths == []


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"content": [
            {"type": "content", "content": {"type": "text", "text": "```\n1\tLR = 0.1\n2\tx\n```"}}]},
         "1 LR = 0.1 (and 1 more lines)"),
        ({"rawOutput": f"The file {FOLDER}/train.py has been updated"}, "The file train.py has been updated"),
        ({"rawOutput": {"exit_code": 0}}, "done"),
        ({"status": "failed"}, "failed"),
    ],
)  # fmt: skip
def test_a_result_is_its_first_line_that_says_something(update: dict[str, Any], said: str) -> None:
    given = {"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed", **update}
    assert result(ToolCallProgress.model_validate(given), FOLDER) == said
