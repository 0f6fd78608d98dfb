"""Asks a CLI agent who it is: starts it, opens a session, sends no prompt, and ends it. Costs nothing."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from msgspec import Struct

from loop.agents.acp import npx, process
from loop.agents.acp.client import AcpClient
from loop.agents.acp.home import remove
from loop.agents.acp.meter import Meter
from loop.agents.acp.opening import Opened, Place, opened
from loop.agents.base import NoProposal, by_policy
from loop.agents.transcript import Transcript
from loop.text import redact

ANSWER_S = 5.0
"""How long an agent may take to answer."""
FEW = 5
"""So many models are named."""


class Found(Struct, frozen=True):
    """What is known of an agent. State `none`: not installed; `wrong`: it is there and does not work."""

    state: Literal["ok", "none", "wrong"]
    text: str


async def inquire(place: Place) -> Found:
    """Who the agent is, how it is logged in, and which modes and models it offers. Never raises for what is
    wrong with the agent, and downloads nothing."""
    command = place.cli.command
    program = shutil.which(command[0], path=place.environ.get("PATH"))
    if program is None:
        return Found("none", f"{command[0]} is not on the PATH")
    folder = Path(tempfile.mkdtemp(prefix=f"autoresearch-{process.owner()}-"))
    client = AcpClient(Transcript(0, lambda _: None), folder, by_policy, Meter())
    try:
        async with asyncio.timeout(ANSWER_S) as limit, opened(place, folder, client) as agent:
            await asyncio.sleep(0)  # how it is logged in comes beside the answer
            words = _words(agent, client.login)
    except TimeoutError:
        if not limit.expired():
            raise
        return Found("wrong", f"{program} does not answer in {ANSWER_S:.0f} s")
    except NoProposal as error:
        if npx.packaged(command) and "ENOTCACHED" in str(error):
            return Found("none", f"not downloaded yet: npx does that at the first start ({program})")
        return Found("wrong", redact(str(error), place.secrets))
    finally:
        await asyncio.shield(asyncio.to_thread(remove, folder))
    old = await npx.old_node(place.environ) if npx.packaged(command) else ""
    return Found("ok", "; ".join(filter(None, (words, old))))


def _words(agent: Opened, login: str) -> str:
    """What an agent has said of itself, in one line."""
    names = [id for id, _ in agent.models]
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return "; ".join(
        filter(
            None,
            (
                agent.program,
                f"login: {login}" if login else "a session opens",
                f"modes {', '.join(agent.modes)}" if agent.modes else "",
                f"models {', '.join(names[:FEW])}{more}" if names else "no choice of models",
            ),
        )
    )
