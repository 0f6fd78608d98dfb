"""Which agent is chosen, with which settings, and what its choice loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loop.agents.acp.agent import AcpAgent
from loop.agents.acp.process import agent_environment
from loop.agents.api.gpt import GptAgent
from loop.agents.choose import HOW_TO, MODELS, make_agent, resolve
from loop.agents.search.agent import SearchAgent
from loop.config import Settings
from loop.errors import UsageError
from tests.loop.agents.world import Heard, context, propose

CLAUDE, GPT, LOCAL = (
    {"ANTHROPIC_API_KEY": "a"},
    {"OPENAI_API_KEY": "b"},
    {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1"},
)


@pytest.mark.parametrize(
    ("settings", "environ", "name"),
    [
        (Settings(), {**CLAUDE, **GPT, **LOCAL}, "claude"),
        (Settings(), {**GPT, **LOCAL}, "gpt"),
        (Settings(), LOCAL, "gpt"),
        (Settings(base_url="http://127.0.0.1:1/v1"), {}, "gpt"),
        (Settings(), {}, "search"),
        (Settings(agent="search"), CLAUDE, "search"),
        (Settings(agent="gpt"), {**CLAUDE, **GPT}, "gpt"),
        (Settings(agent="codex"), CLAUDE, "codex"),
        (Settings(agent="acp", agent_command=["my-agent"]), {}, "acp"),
    ],
)
def test_auto_takes_what_is_configured_in_the_documented_order(
    settings: Settings, environ: dict[str, str], name: str
) -> None:
    assert resolve(settings, environ)[0] == name
    assert make_agent(settings, environ).name == name


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(agent="clod"), "no agent 'clod': choose one of auto, claude"),
        (Settings(agent="claude"), "needs ANTHROPIC_API_KEY"),
        (Settings(agent="gpt"), "needs OPENAI_API_KEY"),
        (Settings(agent="acp"), "needs --agent-command"),
    ],
)
def test_what_cannot_work_is_said_at_once(settings: Settings, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_agent(settings, {})


@pytest.mark.parametrize(
    ("settings", "environ", "api", "model"),
    [
        (Settings(), GPT, "responses", MODELS["gpt"]),
        (Settings(), {**GPT, **LOCAL}, "chat", ""),
        (Settings(api="responses"), {**GPT, **LOCAL}, "responses", ""),
        (Settings(model="mine"), LOCAL, "chat", "mine"),
        (Settings(base_url="https://eu.api.openai.com/v1"), GPT, "responses", MODELS["gpt"]),
        (Settings(api="chat"), GPT, "chat", MODELS["gpt"]),
    ],
)
def test_which_api_gpt_speaks(settings: Settings, environ: dict[str, str], api: str, model: str) -> None:
    agent = make_agent(settings, environ)
    assert isinstance(agent, GptAgent)
    assert (agent.api, agent.model) == (api, model)


async def test_search_says_once_how_to_set_a_model_up() -> None:
    agent, heard = make_agent(Settings(), {}), Heard()
    assert isinstance(agent, SearchAgent)
    await propose(agent, heard, context())
    await propose(agent, heard, context(n=3))
    assert heard.texts("note") == [HOW_TO]
    heard = Heard()
    await propose(make_agent(Settings(agent="search"), {}), heard, context())
    assert heard.texts("note") == []


def test_choosing_an_agent_loads_no_other_agents_library() -> None:
    code = (
        "import sys; from loop.agents.choose import make_agent; from loop.config import Settings;"
        "make_agent(Settings(), dict(OPENAI_API_KEY='k')); make_agent(Settings(), {});"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"anthropic", "acp", "openai", "numpy"} & set(loaded.split())


def test_a_cli_agent_gets_its_own_vendors_variables_only() -> None:
    base = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": "a",
        "OPENAI_API_KEY": "b",
        "CODEX_HOME": "c",
        "AWS_SECRET": "d",
    }
    agent = make_agent(Settings(agent="codex", agent_env=["MINE"]), {**base, "MINE": "e"})
    assert isinstance(agent, AcpAgent)
    passed = agent_environment({**base, "MINE": "e"}, agent._place.cli.vendor, "mark")
    assert passed == {
        "PATH": "/bin", "OPENAI_API_KEY": "b", "CODEX_HOME": "c", "MINE": "e", "AUTORESEARCH_CHILD": "mark",
    }  # fmt: skip
