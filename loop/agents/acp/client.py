"""Our side of the Agent Client Protocol: takes a CLI agent's messages and answers its requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    SessionInfoUpdate,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    ToolCallUpdate,
    UsageUpdate,
)

from loop.agents.acp.calls import Call, result, short
from loop.agents.acp.meter import Meter
from loop.agents.acp.policy import granted
from loop.agents.base import Permit, Wish
from loop.agents.transcript import Transcript
from loop.events import DeltaKind
from loop.text import clean, one_line

TOLD_MOST = 64 * 2**20
"""Characters of a session that are shown and kept. What an agent says beyond that is lost."""
CALLS_MOST = 10_000
"""Tool calls that are remembered, the newest ones."""


def nothing() -> None:
    """Does nothing with news."""


def _fields(told: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """What stands below a name; nothing where that is no object."""
    found = (told or {}).get(name)
    return found if isinstance(found, dict) else {}


class AcpClient:
    """Callbacks of one session, called by the protocol's library.

    `session_update` never waits for anything, so that updates keep their order; `request_permission` may
    wait.
    """

    def __init__(
        self,
        transcript: Transcript,
        folder: Path,
        permit: Permit,
        meter: Meter,
        news: Callable[[], None] = nothing,
    ) -> None:
        self._transcript, self._folder, self._permit = transcript, folder, permit
        self._meter, self._news = meter, news
        self._message: tuple[str, str | None, str] = ("", None, "")
        """Kind of the message that is being streamed, the agent's id of it, and ours."""
        self._calls: dict[str, Call] = {}
        """The tool calls by the agent's ids."""
        self._told = 0
        self.said = 0
        """How many pieces of text, tool calls and results have come."""
        self.trouble = ""
        """What Codex says about a turn that has failed, and that it ends as if nothing had happened."""
        self._failed = False
        """Codex has given a turn up: what it says next is why."""
        self.failed_edits = 0
        self.login = ""
        """How the agent is logged in, if it tells."""

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Take one piece of news from the agent; kinds that do not matter here are ignored."""
        match update:
            case AgentMessageChunk():
                self._add_text("text", update)
            case AgentThoughtChunk():
                self._add_text("thinking", update)
            case ToolCallStart():
                self._meter.request()
                self._learn(update)
            case ToolCallProgress():
                self._learn(update)
            case UsageUpdate():
                self._meter.context(update.used, str((update.field_meta or {}).get("_claude/model", "")))
                if update.cost and update.cost.currency == "USD":
                    self._meter.cost(update.cost.amount)
            case SessionInfoUpdate():
                self._take_trouble(_fields(update.field_meta, "codex"))
            case _:
                pass
        self._news()

    def _add_text(self, kind: DeltaKind, update: AgentMessageChunk | AgentThoughtChunk) -> None:
        if used := _fields(update.field_meta, "usage"):  # qwen tells it so, with an empty text
            self._meter.answer(used)
        if not isinstance(update.content, TextContentBlock) or not update.content.text:
            return
        self.said += 1
        if self._failed and kind == "text":
            self.trouble = clean(update.content.text)
        if self._message[:2] != (kind, update.message_id):
            self._message = (kind, update.message_id, self._transcript.new())
        self._say(kind, update.content.text, self._message[2])

    def _say(self, kind: DeltaKind, text: str, id: str = "", tool: str = "") -> None:
        self._told += len(text)
        if self._told <= TOLD_MOST:
            self._transcript.say(kind, text, id, tool)

    def _call(self, id: str) -> Call:
        """The tool call with the agent's id `id`."""
        if id not in self._calls and len(self._calls) >= CALLS_MOST:
            del self._calls[next(iter(self._calls))]
        return self._calls.setdefault(id, Call(self._transcript.new()))

    def _learn(self, told: ToolCallStart | ToolCallProgress) -> None:
        """A tool call begins, has news or is done. It is shown once it is more than a name: some agents tell
        the file later."""
        self.said += 1
        self._message = ("", None, "")
        call = self._call(told.tool_call_id)
        call.learn(told)
        over = told.status in ("completed", "failed")
        if call.paths or told.raw_input or told.status != "pending":
            self._show(call)
        if told.status == "failed" and call.kind == "edit":
            self.failed_edits += 1
        if over and isinstance(told, ToolCallProgress):
            self._say("result", result(told, self._folder), call.id, call.kind or "tool")

    def _show(self, call: Call) -> None:
        if not call.shown:
            call.shown = True
            self._say("tool", call.line(self._folder), call.id, call.kind or "tool")

    def _take_trouble(self, codex: Mapping[str, Any]) -> None:
        """What Codex tells of a turn that does not go well: it asks its server again, or has given up."""
        status = _fields(codex, "threadStatus").get("type")
        if error := _fields(codex, "error"):
            self.trouble = clean(str(error.get("additionalDetails") or error.get("message")))
            self._say("retry", f"{clean(str(error.get('message')))} ({self.trouble})")
        elif status == "systemError":
            self._failed, self.trouble = True, self.trouble or "it has failed and does not say why"
        elif status == "active":
            self._failed, self.trouble = False, ""

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        """Grant or deny what the agent asks for: by the policy of policy.py, or as a human answers."""
        call = self._call(tool_call.tool_call_id)
        call.learn(tool_call)
        title = clean(short(call.title, self._folder)) or "a request"
        wish = Wish(title, call.kind or "other", call.paths, granted(call.kind, call.paths, self._folder))
        allowed = await self._permit(wish)
        words = ("allow_once", "allow_always") if allowed else ("reject_once", "reject_always")
        choice: PermissionOption | None = next((o for word in words for o in options if o.kind == word), None)
        self._say("note", f"{'allowed' if allowed else 'not allowed'}: {call.line(self._folder)}")
        if choice is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(
            outcome=AllowedOutcome(outcome="selected", option_id=choice.option_id)
        )

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """Take how the agent is logged in; other notifications that are not of the protocol are ignored."""
        if method == "auth/status_update":
            self.login = one_line(str(_fields(params, "authStatus").get("label", "")))

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Refuse a request that is not part of the protocol."""
        raise RequestError.method_not_found(method)
