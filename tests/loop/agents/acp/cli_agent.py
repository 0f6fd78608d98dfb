"""A CLI agent of our own that speaks the Agent Client Protocol on its standard streams.

Run as `python cli_agent.py SCENARIO`; each scenario is one way in which such an agent behaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import acp
from acp.schema import (
    AgentCapabilities,
    AuthenticateResponse,
    AuthMethodAgent,
    Cost,
    InitializeResponse,
    NewSessionResponse,
    PermissionOption,
    PromptResponse,
    SessionConfigOptionSelect,
    SessionConfigSelectOption,
    SessionMode,
    SessionModeState,
    SetSessionConfigOptionResponse,
    SetSessionModeResponse,
    ToolCallLocation,
    ToolCallUpdate,
    Usage,
    UsageUpdate,
)

SCENARIO = sys.argv[1]
LADDER = ("read-only", "workspace-write", "agent-full-access")
QUOTA = {
    "quota": {
        "model_usage": [{"model": "gpt-5-codex", "token_count": {"inputTokens": 8000, "outputTokens": 1000}}]
    }
}
"""What the agent says that it has used: $0.02."""
OPTIONS = [
    PermissionOption(option_id="yes", name="Allow", kind="allow_once"),
    PermissionOption(option_id="no", name="Reject", kind="reject_once"),
]


class CliAgent:
    """Edits X in train.py and writes proposal.md."""

    by_key = False

    def on_connect(self, connection: Any) -> None:
        self.client = connection

    async def initialize(self, protocol_version: int, *_: Any, **__: Any) -> InitializeResponse:
        meta = {"steering": {"supported": SCENARIO.startswith("steered")}}
        return InitializeResponse(
            protocol_version=protocol_version,
            agent_capabilities=AgentCapabilities(),
            auth_methods=[AuthMethodAgent(id="api-key", name="Key")] if SCENARIO == "key" else [],
            field_meta=meta,
        )

    async def new_session(self, cwd: str, *_: Any, **__: Any) -> NewSessionResponse:
        if SCENARIO == "login" or (SCENARIO == "key" and not self.by_key):
            raise acp.RequestError.auth_required()
        self.folder, self.mode, self.prompts = Path(cwd), "ask", 0
        self.cancelled, self.steered = asyncio.Event(), asyncio.Event()
        names = LADDER if SCENARIO == "climbs" else ("ask", "acceptEdits")
        modes = [SessionMode(id=name, name=name) for name in names]
        models = [SessionConfigSelectOption(value="small", name="Small One")]
        option = SessionConfigOptionSelect(
            id="m", name="Model", category="model", type="select", current_value="small", options=models
        )
        return NewSessionResponse(
            session_id="s",
            modes=SessionModeState(current_mode_id=names[0], available_modes=modes),
            config_options=None if SCENARIO == "no models" else [option],
        )

    async def authenticate(self, method_id: str, **_: Any) -> AuthenticateResponse:
        self.by_key = method_id == "api-key"
        return AuthenticateResponse()

    async def set_config_option(self, config_id: str, session_id: str, value: str, **_: Any) -> Any:
        assert (config_id, value) == ("m", "small")
        return SetSessionConfigOptionResponse(config_options=[])

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method != "session/steering":
            raise acp.RequestError.method_not_found(method)
        if SCENARIO == "steered":
            self.steered.set()
            return {"outcome": "injected"}
        return {"outcome": "promptRequired"}

    async def set_session_mode(self, session_id: str, mode_id: str, **_: Any) -> SetSessionModeResponse:
        if SCENARIO == "refuses modes":
            raise acp.RequestError.internal_error({"details": "the folder is not trusted"})
        self.mode = mode_id
        return SetSessionModeResponse()

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.cancelled.set()

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        self.prompts += 1
        text = prompt[0].text
        for word in ("I ", "set ", "X. "):
            await self.client.session_update(session_id, acp.update_agent_message_text(word))
        await self.client.session_update(session_id, acp.update_agent_thought_text(f"mode {self.mode}"))
        match SCENARIO:
            case "good":
                await self.edit(session_id, "X = 3.0", "X = 2.0")
                self.write("notes.md", "X wants to be smaller.\n")
            case "corrected" if self.prompts == 1:
                self.write("proposal.md", "no edit at all")
            case "corrected":
                assert "unchanged" in text, text
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "greedy":
                await self.greedy(session_id)
            case "wish":
                call = ToolCallUpdate(tool_call_id="w", title="a wish", kind="think")
                await self.client.request_permission(session_id, call, OPTIONS)
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "leaky":
                await self.leak(session_id)
            case "dear":
                await self.client.session_update(session_id, UsageUpdate(
                    session_update="usage_update", used=1, size=2, cost=Cost(amount=9.0, currency="USD")
                ))  # fmt: skip
                await asyncio.wait_for(self.cancelled.wait(), 60)
                return PromptResponse(stop_reason="cancelled")
            case "climbs" if self.mode == "read-only":
                failed = acp.update_tool_call("edit-0", status="failed")
                await self.client.session_update(
                    session_id, acp.start_edit_tool_call("edit-0", "E", "x", "y")
                )
                await self.client.session_update(session_id, failed)
            case "climbs" | "refuses modes" | "no models" | "key":
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "steered":
                await asyncio.wait_for(self.steered.wait(), 60)
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "steered too late":
                await asyncio.sleep(1.0)
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "refused" if self.prompts == 1:
                return PromptResponse(stop_reason="cancelled")
            case "refused":
                assert "That was not allowed" in text, text
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "outage" if self.prompts < 3:
                raise acp.RequestError.internal_error({"details": "529 Overloaded"})
            case "outage":
                assert text == "Go on where you were.", text
                await self.edit(session_id, "X = 3.0", "X = 2.0")
            case "down":
                raise acp.RequestError.internal_error({"details": "Connection error."})
            case "bad key":
                raise acp.RequestError.internal_error({"details": "401 invalid x-api-key"})
            case "endless":
                while not self.cancelled.is_set():
                    await self.client.session_update(
                        session_id, acp.start_tool_call("r", "Read", kind="read")
                    )
                    await asyncio.sleep(0.05)
                self.cancelled.clear()
                return PromptResponse(stop_reason="cancelled", field_meta=QUOTA)
            case "repair" if "crashed" in text:
                assert "NameError" in (self.folder / "run.log").read_text()
                await self.edit(session_id, "X = unknown", "X = 2.0")
            case "repair":
                await self.edit(session_id, "X = 3.0", "X = unknown")
            case "dies":
                print("no more memory", file=sys.stderr, flush=True)
                os._exit(1)
            case "stubborn":
                pass
            case "hangs":
                self.leave_children()
                await asyncio.sleep(60)
        usage = Usage(total_tokens=150, input_tokens=40, output_tokens=50, cached_read_tokens=60)
        return PromptResponse(stop_reason="end_turn", usage=usage)

    async def edit(self, session_id: str, old: str, new: str) -> None:
        """An edit as CLI agents tell of it."""
        path = self.folder / "train.py"
        call = acp.start_edit_tool_call("edit-1", "Edit train.py", str(path), new)
        await self.client.session_update(session_id, call)
        path.write_text(path.read_text().replace(old, new))
        done = acp.update_tool_call("edit-1", status="completed")
        await self.client.session_update(session_id, done)
        self.write("proposal.md", "# X to 2.0\n\nCloser to the minimum.\n")

    async def greedy(self, session_id: str) -> None:
        """Asks for what it must not have, and leaves traces everywhere."""
        answers = {}
        asked: dict[str, tuple[Any, str]] = {
            "run": ("execute", str(self.folder)),
            "outside": ("edit", "/etc/hosts"),
            "inside": ("edit", str(self.folder / "train.py")),
            "up": ("edit", str(self.folder / ".." / "x")),
        }
        for name, (kind, path) in asked.items():
            call = ToolCallUpdate(
                tool_call_id=name,
                title=name,
                kind=kind,
                locations=[ToolCallLocation(path=path)],
            )
            answer = await self.client.request_permission(session_id, call, OPTIONS)
            answers[name] = getattr(answer.outcome, "option_id", "cancelled")
        readonly = self.folder / "prepare.py"
        if readonly.exists():
            readonly.chmod(0o644)
        readonly.write_text("evaluate = lambda *_: 0\n")
        self.write("cheat/sheet.txt", "psst")
        self.write("notes.md", json.dumps({"answers": answers, "environment": sorted(os.environ)}))
        self.leave_children()
        await self.edit(session_id, "X = 3.0", "X = 2.0")

    async def leak(self, session_id: str) -> None:
        """Shows its key wherever it can."""
        key = os.environ["MINE_API_KEY"]
        await self.client.session_update(session_id, acp.update_agent_message_text(f"my key is {key}"))
        call = acp.start_tool_call("t", f"curl -H {key}", kind="execute")
        await self.client.session_update(session_id, call)
        done = acp.update_tool_call("t", status="completed", content=[acp.tool_content(acp.text_block(key))])
        await self.client.session_update(session_id, done)
        print(key, file=sys.stderr, flush=True)
        await self.edit(session_id, "X = 3.0", f"KEY = {key!r}\nX = 2.0")
        self.write("proposal.md", f"X to 2.0 {key}\n\nbecause {key}")
        self.write("notes.md", f"remember {key}")
        self.write("stray.txt", key)

    def leave_children(self) -> None:
        """One child in our session, one in a session of its own whose parent is gone."""
        sleep = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(300)"
        pids = Path(os.environ["OURS_PIDS"])
        subprocess.Popen([sys.executable, "-c", sleep, str(pids / "near")])
        again = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}, sys.argv[1]])"
        subprocess.run([sys.executable, "-c", again, str(pids / "far")], start_new_session=True)
        while not all((pids / name).exists() and (pids / name).read_text() for name in ("near", "far")):
            pass

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    asyncio.run(acp.run_agent(CliAgent()))  # type: ignore[arg-type]
