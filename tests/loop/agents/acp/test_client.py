"""What a CLI agent tells becomes transcript, and what it asks is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import acp
import pytest
from acp.schema import (
    AllowedOutcome,
    Cost,
    PermissionOption,
    RequestPermissionResponse,
    ToolCallLocation,
    ToolCallUpdate,
    UsageUpdate,
)

from loop.agents.acp import client as client_module
from loop.agents.acp.client import AcpClient
from loop.agents.acp.meter import Meter
from loop.agents.base import Permit, Wish, by_policy
from loop.agents.transcript import Transcript
from tests.loop.agents.world import Heard

FOLDER = Path("/scratch")
OPTIONS = [
    PermissionOption(option_id="always", name="Always", kind="allow_always"),
    PermissionOption(option_id="yes", name="Allow", kind="allow_once"),
    PermissionOption(option_id="no", name="Reject", kind="reject_once"),
]


def client(heard: Heard | None = None, permit: Permit = by_policy, meter: Meter | None = None) -> AcpClient:
    return AcpClient(Transcript(1, heard or Heard()), FOLDER, permit, meter or Meter())


async def tell(told: AcpClient, *updates: Any) -> None:
    for update in updates:
        await told.session_update("s", update)


def chosen(answer: RequestPermissionResponse) -> str:
    """The option that was chosen; empty when none was."""
    return answer.outcome.option_id if isinstance(answer.outcome, AllowedOutcome) else ""


async def test_words_of_one_kind_are_one_message_until_something_else_comes() -> None:
    heard = Heard()
    await tell(
        client(heard),
        acp.update_agent_message_text("I "),
        acp.update_agent_message_text("look."),
        acp.update_agent_thought_text("Hm."),
        acp.update_agent_message_text("I edit."),
        acp.start_tool_call("t", "Edit train.py", kind="edit"),
        acp.update_agent_message_text("Done."),
    )
    assert heard.texts("text") == ["I look.", "I edit.", "Done."]
    assert heard.texts("thinking") == ["Hm."]
    assert heard.texts("tool") == ["Edit train.py"]


async def test_a_tool_call_is_told_with_the_first_line_of_its_result() -> None:
    heard = Heard()
    content = [acp.tool_content(acp.text_block("12 lines\nand more"))]
    await tell(
        client(heard),
        acp.start_tool_call("t", "Read train.py", kind="read"),
        acp.update_tool_call("t", status="in_progress"),
        acp.update_tool_call("t", status="completed", content=content),
        acp.start_tool_call("u", "Run it", kind="execute"),
        acp.update_tool_call("u", status="failed"),
    )
    results = [(d.text, d.tool) for d in heard.deltas if d.kind == "result"]
    assert results == [("12 lines (and 1 more lines)", "read"), ("failed", "execute")]
    calls = [d.id for d in heard.deltas if d.kind == "tool"]
    assert [d.id for d in heard.deltas if d.kind == "result"] == calls


async def test_dollars_are_counted_and_other_currencies_are_not() -> None:
    meter = Meter()
    told = client(meter=meter)
    for amount, currency in ((2.0, "EUR"), (1.5, "USD")):
        cost = Cost(amount=amount, currency=currency)
        await tell(told, UsageUpdate(session_update="usage_update", used=1, size=2, cost=cost))
    assert meter.usage.dollars == 1.5


@pytest.mark.parametrize(
    ("kind", "path", "option", "said"),
    [
        ("edit", "/scratch/train.py", "yes", "allowed: a wish train.py"),
        ("edit", "/etc/hosts", "no", "not allowed: a wish /etc/hosts"),
        ("execute", "/scratch", "no", "not allowed: a wish"),
    ],
)
async def test_the_mildest_option_that_fits_the_policy_is_chosen(
    kind: Any, path: str, option: str, said: str
) -> None:
    heard = Heard()
    call = ToolCallUpdate(
        tool_call_id="w", title="a \x1b[31mwish", kind=kind, locations=[ToolCallLocation(path=path)]
    )
    assert chosen(await client(heard).request_permission("s", call, OPTIONS)) == option
    assert heard.texts("note") == [said]


async def test_a_request_knows_what_its_tool_call_said_before() -> None:
    """Adapters name title, kind and paths when a call starts, and not again when they ask."""
    asked: list[Wish] = []

    async def permit(wish: Wish) -> bool:
        asked.append(wish)
        return not wish.granted

    told = client(permit=permit)
    await tell(told, acp.start_edit_tool_call("e", "Edit hosts", "/etc/hosts", "x"))
    answer = await told.request_permission("s", ToolCallUpdate(tool_call_id="e"), OPTIONS)
    (wish,) = asked
    assert (wish.title, wish.kind, wish.granted) == ("Edit hosts", "edit", False)
    assert set(wish.paths) == {"/etc/hosts"}
    assert chosen(answer) == "yes", "a human may allow what the policy would not"


async def test_paths_are_found_in_the_input_of_a_tool_too() -> None:
    given: dict[str, Any] = {"file_path": "/etc/hosts", "command": "cat"}
    call = ToolCallUpdate(tool_call_id="r", title="Read", kind="read", raw_input=given)
    assert chosen(await client().request_permission("s", call, OPTIONS)) == "no"


async def test_without_an_option_to_choose_the_request_is_cancelled() -> None:
    call = ToolCallUpdate(tool_call_id="w", title="a wish", kind="execute")
    answer = await client().request_permission("s", call, OPTIONS[:2])
    assert answer.outcome.outcome == "cancelled"


async def test_a_flood_is_neither_kept_nor_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session may last for twenty minutes, and no line of the protocol is bounded."""
    monkeypatch.setattr(client_module, "TOLD_MOST", 1000)
    monkeypatch.setattr(client_module, "CALLS_MOST", 10)
    heard = Heard()
    told = client(heard)
    for i in range(100):
        await tell(told, acp.update_agent_message_text("x" * 100), acp.start_tool_call(f"{i}", "y" * 100))
    assert sum(len(delta.text) for delta in heard.deltas) <= 1000
    assert len(told._calls) == 10


async def test_a_call_that_names_more_files_than_anyone_can_look_at_is_denied() -> None:
    told, paths = client(), [ToolCallLocation(path=f"/scratch/{i}") for i in range(20_000)]
    for _ in range(3):
        call = ToolCallUpdate(tool_call_id="t", kind="edit", locations=paths)
        assert chosen(await told.request_permission("s", call, OPTIONS)) == "no"
    few = ToolCallUpdate(tool_call_id="u", kind="edit", locations=paths[:1000])
    assert chosen(await told.request_permission("s", few, OPTIONS)) == "yes"


@pytest.mark.parametrize("amount", [-5.0, float("nan"), float("inf"), 0.5])
async def test_what_a_session_has_cost_does_not_fall(amount: float) -> None:
    """Else the limit on spending would never be reached."""
    meter = Meter("m")
    told = client(meter=meter)
    for dollars in (1.0, amount):
        cost = Cost(amount=dollars, currency="USD")
        await tell(told, UsageUpdate(session_update="usage_update", used=1, size=2, cost=cost))
    assert meter.usage.dollars == 1.0


async def test_what_the_protocol_does_not_know_is_ignored_or_refused() -> None:
    await client().ext_notification("x/news", {})
    with pytest.raises(acp.RequestError, match="Method not found"):
        await client().ext_method("x/do", {})
