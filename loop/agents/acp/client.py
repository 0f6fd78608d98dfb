"""Our side of the Agent Client Protocol: takes a CLI agent's messages and answers its requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acp import RequestError
from acp.schema import (
    AgentMessageChunk,
    AgentThoughtChunk,
    AllowedOutcome,
    DeniedOutcome,
    PermissionOption,
    RequestPermissionResponse,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    UsageUpdate,
)

from loop.agents.acp.policy import granted
from loop.agents.base import Permit, Wish
from loop.agents.transcript import Transcript
from loop.events import DeltaKind
from loop.text import clean


class AcpClient:
    """Callbacks of one session, called by the protocol's library.

    `session_update` never waits for anything, so that updates keep their order; `request_permission` may
    wait.
    """

    def __init__(self, transcript: Transcript, folder: Path, permit: Permit) -> None:
        self._transcript, self._folder, self._permit = transcript, folder, permit
        self._message: tuple[str, str] = ("", "")
        """Kind and id of the message that is being streamed."""
        self._tools: dict[str, tuple[str, str | None, list[str]]] = {}
        """The tool calls by their own ids: id of the message, kind, and the paths that they name."""
        self._titles: dict[str, str] = {}
        self.dollars: float | None = None
        """What the session has cost so far; None when the agent does not tell."""

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Take one piece of news from the agent; kinds that do not matter here are ignored."""
        match update:
            case AgentMessageChunk():
                self._add_text("text", update)
            case AgentThoughtChunk():
                self._add_text("thinking", update)
            case ToolCallStart():
                self._start(update)
            case ToolCallProgress():
                self._progress(update)
            case UsageUpdate() if update.cost and update.cost.currency == "USD":
                self.dollars = update.cost.amount
            case _:
                pass

    def _add_text(self, kind: DeltaKind, update: AgentMessageChunk | AgentThoughtChunk) -> None:
        if isinstance(update.content, TextContentBlock):
            if self._message[0] != kind:
                self._message = (kind, self._transcript.new())
            self._transcript.say(kind, update.content.text, self._message[1])

    def _start(self, call: ToolCallStart) -> None:
        """A tool call begins."""
        self._message = ("", "")
        id = self._transcript.new()
        self._tools[call.tool_call_id] = (id, call.kind, _paths(call))
        self._titles[call.tool_call_id] = call.title or ""
        self._transcript.say("tool", call.title or call.kind or "tool", id, call.kind or "tool")

    def _progress(self, call: ToolCallProgress) -> None:
        """A tool call has news or is done."""
        id, kind, paths = self._tools.get(call.tool_call_id, ("", None, []))
        self._tools[call.tool_call_id] = (id, call.kind or kind, [*paths, *_paths(call)])
        if call.status in ("completed", "failed"):
            self._transcript.say("result", _text(call) or call.status, id, kind or "tool")

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        """Grant or deny what the agent asks for: by the policy of policy.py, or as a human answers."""
        _id, kind, paths = self._tools.get(tool_call.tool_call_id, ("", None, []))
        kind, paths = tool_call.kind or kind, [*paths, *_paths(tool_call)]
        title = clean(tool_call.title or self._titles.get(tool_call.tool_call_id, "") or "a request")
        wish = Wish(title, kind or "other", paths, granted(kind, paths, self._folder))
        allowed = await self._permit(wish)
        words = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
        choice: PermissionOption | None = next((o for word in words for o in options if o.kind == word), None)
        self._transcript.say("note", f"{'allowed' if allowed else 'not allowed'}: {title}")
        if choice is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(
            outcome=AllowedOutcome(outcome="selected", option_id=choice.option_id)
        )

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """Ignore a notification that is not part of the protocol."""

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Refuse a request that is not part of the protocol."""
        raise RequestError.method_not_found(method)


def _paths(call: ToolCallStart | ToolCallUpdate | ToolCallProgress) -> list[str]:
    """Every path that a tool call names, wherever agents put it."""
    paths = [location.path for location in call.locations or []]
    paths += [found.path for found in call.content or [] if found.type == "diff"]
    given = call.raw_input if isinstance(call.raw_input, dict) else {}
    paths += [given[key] for key in ("file_path", "path", "abs_path") if isinstance(given.get(key), str)]
    return paths


def _text(call: ToolCallProgress) -> str:
    """The first line of a tool's result; empty when it has no text."""
    for found in call.content or []:
        if found.type == "content" and isinstance(found.content, TextContentBlock):
            return found.content.text.strip().split("\n", 1)[0][:300]
    return ""
