"""Sees the turns of a CLI agent through: outages are waited for, and money and time are kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from loop.agents import prompt, provider_errors
from loop.agents.acp import faults
from loop.agents.acp.client import AcpClient
from loop.agents.acp.clock import Clock
from loop.agents.acp.faults import Ending
from loop.agents.acp.meter import Meter
from loop.agents.base import AgentFailed, AgentStopped, Bounds, OutOfMoney
from loop.agents.transcript import Transcript

if TYPE_CHECKING:
    from acp.schema import PromptResponse

    from loop.agents.acp.opening import Opened

BLIND = 6
"""After so many requests of unknown price a turn is interrupted, so that the agent tells what they cost."""
USAGE_S = 3.0
"""How long an agent whose time is up may take to tell what it has used."""
STEER_S = 5.0
"""How long an agent may take to accept a message in mid-turn."""
GO_ON = "Go on where you were."
COUNTED = "You were interrupted to see what this has cost so far. Go on where you were."


class Turns:
    """The turns of one session."""

    def __init__(
        self,
        name: str,
        opened: Opened,
        client: AcpClient,
        meter: Meter,
        clock: Clock,
        transcript: Transcript,
        bounds: Bounds,
        secrets: tuple[str, ...],
        dollars_left: float | None,
    ) -> None:
        self._name, self._opened, self._client = name, opened, client
        self._meter, self._clock, self._transcript = meter, clock, transcript
        self._bounds, self._secrets, self._dollars_left = bounds, secrets, dollars_left
        self._reached = False
        """Whether the agent's server has ever answered."""
        self._interrupted = False
        self._cancelling: asyncio.Task[None] | None = None
        self.asking = False
        """Whether a turn is under way."""
        self.unheard: list[str] = []
        """Messages of the human that did not get into a turn under way."""

    async def take(self, words: str) -> str:
        """Send a prompt, see its turn through, and return why it ended.

        Raises `AgentFailed` or `AgentStopped`.
        """
        loop = asyncio.get_running_loop()
        tries, down_since = 0, loop.time()
        while True:
            self._check_money()
            began, said = loop.time(), self._client.said
            stop, ending = await self._once(words)
            if self._client.said > said:
                self._reached = self._reached or not ending
                words = GO_ON
            if self._interrupted and stop == "cancelled":
                words, self._interrupted = COUNTED, False
                continue
            self._interrupted = False
            if ending is None:
                return stop
            tries = tries + 1
            self._give_up(ending, tries, loop.time() - down_since)
            self._clock.give_back(loop.time() - began)
            await self._wait(ending, tries)

    async def _once(self, words: str) -> tuple[str, Ending | None]:
        """One prompt: why its turn ended, or what has gone wrong."""
        from acp import RequestError, text_block

        self._meter.begin()
        self._client.trouble = ""
        asking = asyncio.create_task(self._opened.connection.prompt(self._opened.id, [text_block(words)]))
        self.asking = True
        try:
            response = await asyncio.shield(asking)
        except RequestError as error:
            return "", faults.of_request(error, self._name, self._meter.model, self._secrets)
        except asyncio.CancelledError:
            await self._hear_the_last(asking)
            raise
        finally:
            self.asking = False
        self._meter.end(response)
        if self._client.trouble and response.stop_reason == "end_turn":
            return "", faults.of_words(self._client.trouble, self._name, self._meter.model, self._secrets)
        return str(response.stop_reason), None

    async def _hear_the_last(self, asking: asyncio.Task[PromptResponse]) -> None:
        """Nobody waits for this turn any more. When its time was up, what it has used still counts."""
        if self._clock.late:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(USAGE_S):
                    await self._opened.connection.cancel(self._opened.id)
                    self._meter.end(await asking)
        asking.cancel()

    def check(self) -> None:
        """Interrupt the turn under way if it may have cost what is left, so that the agent tells the cost."""
        if self._dollars_left is None or not self.asking or self._interrupted:
            return
        guess = self._meter.guess() if self._meter.requests else self._meter.usage.dollars
        if guess >= self._dollars_left if guess is not None else self._blind():
            self._interrupted = True
            self._cancelling = asyncio.create_task(self._opened.connection.cancel(self._opened.id))

    def _blind(self) -> bool:
        """Nothing is known of the price, not even from a turn before."""
        return self._meter.requests >= BLIND and not self._meter.told

    def _check_money(self) -> None:
        """Give the attempt up when another request would cost more than is left."""
        spent, left = self._meter.usage.dollars, self._dollars_left
        if left is not None and spent is not None and spent + (self._meter.each() or 0.0) > left:
            each = self._meter.each() or 0.0
            raise OutOfMoney(
                f"spending limit: {self._name} has used ${spent:.4f} of the ${left:.4f} that were left, and "
                f"another request costs about ${each:.4f}"
            )

    def _give_up(self, ending: Ending, tries: int, down_s: float) -> None:
        """Raise `AgentFailed` or `AgentStopped`, unless another try makes sense."""
        if ending.kind not in ("retry", "unreachable"):
            raise ending.as_end()
        if ending.kind == "unreachable" and not self._reached and tries >= self._bounds.first_tries:
            raise AgentStopped(f"{ending}: check its address and the network, then resume")
        if down_s > self._bounds.outage_s:
            raise AgentFailed(f"{ending}, for {down_s / 60:.0f} minutes now")

    async def _wait(self, ending: Ending, tries: int) -> None:
        seconds = provider_errors.wait_s(tries, None, self._bounds.wait_base_s)
        self._transcript.say("retry", f"{ending}; again in {seconds:.1f} s, try {tries + 1}")
        with self._clock.still():
            await asyncio.sleep(seconds)

    async def steer(self, messages: list[str]) -> None:
        """Put the human's messages into the turn under way; what does not get there is kept for the next."""
        text = {"type": "text", "text": prompt.heard(messages)}
        with contextlib.suppress(Exception):
            async with asyncio.timeout(STEER_S):
                meta = {"steering": {"idleBehavior": "promptRequired"}}
                answer = await self._opened.ask("_session/steering", prompt=[text], _meta=meta)
            if answer.get("outcome") == "injected":
                return
        self.unheard += messages
