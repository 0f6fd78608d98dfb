"""Works out one experiment in a conversation with a model: runs the tools it calls until it submits
something.

Each provider's module has its own `Dialogue`, which streams one turn at a time. The history grows by whole
turns only. So a turn that breaks off anywhere can be asked for again, and half a tool call is never run.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from loop.agents import prompt, provider_errors
from loop.agents.api.toolbox import Toolbox, ToolError
from loop.agents.base import AgentFailed, AgentStopped, Bounds, Proposal, ResearchContext
from loop.agents.checks import Tried
from loop.agents.expected import Expected
from loop.agents.provider_errors import Fault
from loop.agents.transcript import Transcript, cost_line
from loop.events import Usage

Stop = Literal["tools", "end", "cut", "refused", "overflow"]
"""Why a turn ended: it calls tools; it has no tool call; it was cut because it was too long; the model
refused to answer; the model has no room for a longer conversation."""

NUDGES = 3
"""How many turns in a row may lack a tool call before the attempt is given up."""
ERRORS = 8
"""After so many failed tool calls in a row the attempt is given up."""
GARBLED = 8
"""After so many answers that cannot be read the attempt is given up."""
READ_MOST = 300_000
"""Characters that the answers of all tool calls of a conversation may have together."""
TOKENS_LEAST = 7_000
"""A prompt is not made shorter than this for a model that has little room."""


class Call(Struct, frozen=True):
    """A tool call. `arguments` is the text the model wrote: not always JSON."""

    id: str
    name: str
    arguments: str


class Answer(Struct, frozen=True):
    """What the tool answers to the call `id`."""

    id: str
    text: str
    failed: bool = False


class Turn(Struct, frozen=True):
    """One whole turn of the model."""

    calls: list[Call]
    stop: Stop
    usage: Usage


class Dialogue(Protocol):
    """One conversation in the format of a provider's API."""

    async def turn(self, transcript: Transcript) -> Turn:
        """Stream the model's next turn. Raises whatever the provider's library raises, or `Fault`; the
        history is then as it was before."""
        ...

    def answer(self, answers: list[Answer]) -> None:
        """Add the answers to all calls of the last turn to the history."""
        ...

    def say(self, text: str) -> None:
        """Add a user message to the history."""
        ...


class Peer(Struct):
    """The server and the model that an agent talks to, and what is known of them."""

    name: str
    """What the server is called in sentences."""
    model: str
    secrets: tuple[str, ...] = ()
    reached: bool = False
    """Whether it has ever answered."""
    tokens: int = prompt.TOKENS_MOST
    """About how many tokens a prompt may have; fewer once the model has turned out to have less room."""


class TooLong(AgentFailed):
    """The model has no room for the conversation."""


async def research(
    context: ResearchContext,
    begin: Callable[[prompt.Prompt], Dialogue],
    tried: Tried,
    transcript: Transcript,
    peer: Peer,
    bounds: Bounds,
) -> Proposal:
    """Work out one experiment. When the model has too little room for the conversation, it is begun again
    with half the prompt, and later ones begin with as little.

    Raises `AgentFailed` or `AgentStopped`, with what it cost.
    """
    await asyncio.to_thread(tried.update, context)
    known, spent = Expected(context), Usage()
    while True:
        start = await asyncio.to_thread(prompt.build, context, peer.tokens, known=known)
        toolbox = Toolbox(context, transcript.emit, tried, known)
        try:
            proposal = await converse(context, begin(start), toolbox, transcript, peer, bounds)
        except TooLong as error:
            spent = spent + error.usage
            error.usage = spent
            smaller = min(peer.tokens, round(start.size / prompt.BYTES_PER_TOKEN)) // 2
            if smaller < TOKENS_LEAST:
                raise
            peer.tokens = smaller
            transcript.say("note", f"{error}: begun anew with a prompt of at most about {smaller:,} tokens")
        except (AgentFailed, AgentStopped) as error:
            error.usage = spent + error.usage
            raise
        else:
            return msgspec.structs.replace(proposal, usage=spent + proposal.usage)


async def converse(
    context: ResearchContext,
    dialogue: Dialogue,
    toolbox: Toolbox,
    transcript: Transcript,
    peer: Peer,
    bounds: Bounds,
) -> Proposal:
    """Hold one conversation until a proposal is submitted.

    Raises `AgentFailed` or `AgentStopped`, with what it cost.
    """
    conversation = _Conversation(context, dialogue, toolbox, transcript, peer, bounds)
    started = time.monotonic()
    try:
        proposal = await conversation.run()
    except (AgentFailed, AgentStopped) as error:
        error.usage = msgspec.structs.replace(conversation.usage, seconds=time.monotonic() - started)
        raise
    usage = msgspec.structs.replace(conversation.usage, seconds=time.monotonic() - started)
    transcript.say("note", cost_line(usage, peer.model))
    return msgspec.structs.replace(proposal, usage=usage)


async def answer(
    context: ResearchContext,
    question: str,
    begin: Callable[[prompt.Prompt], Dialogue],
    transcript: Transcript,
    peer: Peer,
    bounds: Bounds,
) -> Usage:
    """Answer a human's question in the transcript; returns what it cost. The model may look things up.

    Raises `AgentFailed` or `AgentStopped`, with what it cost.
    """
    known = Expected(context)
    start = await asyncio.to_thread(prompt.build, context, peer.tokens, known=known)
    toolbox, dialogue = Toolbox(context, transcript.emit, Tried(), known), begin(start)
    toolbox.reading = True
    dialogue.say(prompt.question(question))
    conversation = _Conversation(context, dialogue, toolbox, transcript, peer, bounds)
    try:
        await conversation.reply()
    except (AgentFailed, AgentStopped) as error:
        error.usage = conversation.usage
        raise
    transcript.say("note", cost_line(conversation.usage, peer.model))
    return conversation.usage


class _Conversation:
    """One conversation: its limits, and what has been used of them."""

    def __init__(
        self,
        context: ResearchContext,
        dialogue: Dialogue,
        toolbox: Toolbox,
        transcript: Transcript,
        peer: Peer,
        bounds: Bounds,
    ) -> None:
        self._context, self._dialogue, self._toolbox = context, dialogue, toolbox
        self._transcript, self._peer, self._bounds = transcript, peer, bounds
        self.usage = Usage()
        self._deadline = asyncio.get_running_loop().time() + bounds.seconds
        self._silent = self._errors = self._read = 0

    async def run(self) -> Proposal:
        """Take turns until a proposal is submitted."""
        for left in range(self._bounds.turns, 0, -1):
            if news := self._context.hear():
                self._dialogue.say(prompt.heard(news))
            turn = await self._whole_turn()
            self.usage += turn.usage
            await self._take(turn)
            if self._toolbox.proposal:
                return self._toolbox.proposal
            if left == 4:
                self._dialogue.say("Three turns are left: submit your best version now.")
            self._check_money()
        raise AgentFailed(f"{self._peer.model} submitted nothing in {self._bounds.turns} turns")

    async def reply(self) -> None:
        """Take turns until the model says something without a tool call: that is the answer."""
        for _ in range(self._bounds.turns):
            turn = await self._whole_turn()
            self.usage += turn.usage
            if turn.stop != "tools":
                return
            self._dialogue.answer([await self._call(call) for call in turn.calls])
            self._check_money()
        raise AgentFailed(f"{self._peer.model} gave no answer in {self._bounds.turns} turns")

    async def _take(self, turn: Turn) -> None:
        """Run the tool calls of a turn. When it has none, tell the model what to do instead."""
        match turn.stop:
            case "tools":
                self._silent = 0
                answers = [await self._call(call) for call in turn.calls]
                if not self._toolbox.proposal:
                    self._dialogue.answer(answers)
                return
            case "refused":
                raise AgentFailed(f"{self._peer.model} refused to answer")
            case "overflow":
                raise TooLong(f"the conversation is too long for {self._peer.model}")
            case "cut":
                words = (
                    "Your last turn was longer than allowed and is lost. Make smaller edits with str_replace."
                )
            case "end":
                words = "That was no tool call. Edit the file with the tools, then call submit."
        self._silent += 1
        if self._silent > NUDGES:
            raise AgentFailed(f"{self._peer.model} ended {self._silent} turns in a row without a tool call")
        self._dialogue.say(words)

    async def _call(self, call: Call) -> Answer:
        """Run one tool call. When it fails, the answer says why."""
        if self._toolbox.proposal:
            return Answer(call.id, "too late: submitted already", failed=True)
        id = self._transcript.new()
        try:
            text, failed = await self._toolbox.call(call.name, _arguments(call), id), False
        except ToolError as error:
            text, failed = str(error), True
        self._read += len(text)
        if self._read > READ_MOST:
            text, failed = "you have read enough for one experiment: submit now.", True
        self._transcript.say("result", text.split("\n", 1)[0][:300], id, call.name)
        self._errors = self._errors + 1 if failed else 0
        if self._errors >= ERRORS:
            raise AgentFailed(
                f"{ERRORS} tool calls of {self._peer.model} failed in a row, the last: {text[:200]}"
            )
        return Answer(call.id, text, failed)

    def _check_money(self) -> None:
        """Give the attempt up when it has cost what it may cost."""
        left, spent = self._context.dollars_left, self.usage.dollars
        if left is not None and spent is not None and spent >= left:
            raise AgentFailed(f"the spending limit was reached before anything was submitted (${spent:.2f})")

    async def _whole_turn(self) -> Turn:
        """The next turn. After a fault that may pass, it is asked for again."""
        loop = asyncio.get_running_loop()
        tries, garbled, down_since = 0, 0, loop.time()
        while True:
            try:
                async with asyncio.timeout_at(self._deadline) as limit:
                    turn = await self._dialogue.turn(self._transcript)
                self._peer.reached = True
                return turn
            except Exception as error:
                if limit.expired():
                    raise AgentFailed(
                        f"{self._peer.model} submitted nothing in {self._bounds.seconds:.0f} s"
                    ) from error
                fault = provider_errors.explain(error, self._peer.name, self._peer.model, self._peer.secrets)
            tries, garbled = tries + 1, garbled + (fault.kind == "garbled")
            if garbled >= GARBLED:
                raise AgentFailed(f"{fault}, {garbled} times now")
            self._give_up(fault, tries, loop.time() - down_since)
            await self._wait(fault, tries)

    def _give_up(self, fault: Fault, tries: int, down_s: float) -> None:
        """Raise `AgentFailed` or `AgentStopped`, unless another try makes sense."""
        if fault.kind == "stop":
            raise AgentStopped(str(fault))
        if fault.kind == "long":
            raise TooLong(str(fault))
        if fault.kind == "fail":
            raise AgentFailed(str(fault))
        if (fault.retry_after_s or 0.0) + down_s > self._bounds.outage_s:
            hours = (fault.retry_after_s or 0.0) / 3600
            raise AgentStopped(f"{fault}, and asks to wait {hours:.1f} hours: resume then")
        if fault.kind == "unreachable" and not self._peer.reached and tries >= self._bounds.first_tries:
            raise AgentStopped(f"{fault}: check the address (--base-url) and the network, then resume")
        if down_s > self._bounds.outage_s:
            raise AgentFailed(f"{fault}, for {down_s / 60:.0f} minutes now")

    async def _wait(self, fault: Fault, tries: int) -> None:
        """Wait before the next try; the deadline moves by as much."""
        seconds = provider_errors.wait_s(tries, fault.retry_after_s, self._bounds.wait_base_s)
        asked = " (as it asked)" if fault.retry_after_s is not None else ""
        self._transcript.say("retry", f"{fault}; again in {seconds:.1f} s{asked}, try {tries + 1}")
        await asyncio.sleep(seconds)
        self._deadline += seconds


def _arguments(call: Call) -> object:
    """The arguments of a call, decoded from JSON. Raises `ToolError` when they are not JSON."""
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:  # the second where lists lie in each other a thousand times
        raise ToolError(f"{call.name}: the arguments are not JSON ({error}). Call it again.") from error


def sendable(arguments: str) -> str:
    """The arguments of a call as they are sent back with the history. Servers refuse a history whose
    arguments are not JSON: then it is an empty object."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return "{}"
    return arguments


async def drop_if_refused(
    options: Mapping[str, tuple[str, ...]], refused: set[str], ask: Callable[[], Awaitable[Turn]]
) -> Turn:
    """Take a turn with `ask`; when the server refuses one of `options`, add it to `refused` and ask again.

    `ask` leaves out the options in `refused`. A server refuses an option when it answers 400 or 422 with an
    error that holds one of the option's words: proxies speak of it by the name that it has behind them. Any
    other error is raised.
    """
    while True:
        try:
            return await ask()
        except Exception as error:
            words = str(error) if getattr(error, "status_code", 0) in (400, 422) else ""
            named = [name for name, signs in options.items() if any(sign in words for sign in signs)]
            if not (left := [name for name in named if name not in refused]):
                raise
            refused.update(left)
