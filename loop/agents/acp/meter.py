"""Counts what a session with a CLI agent uses, and guesses what the turn under way has used so far.

Agents tell their usage when a turn ends, also when it is cancelled, but in mid-turn only some tell anything.
Each tool call takes at least one request to the model, so the guess is the number of requests times the price
of one: the mean of the turns before, or what the tokens in the model's context would cost without a cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from loop.agents import pricing
from loop.agents.pricing import Tokens
from loop.events import Usage

if TYPE_CHECKING:
    from acp.schema import PromptResponse

MOST = 2**53
"""A count of tokens that is larger is none."""
CONTEXT = 12_000
"""Tokens taken for one request while nothing is known: the agent's instructions and tools, and our prompt."""
ANSWER = 300
"""Tokens of output taken for one request, whose text is an edit at most."""
UNCACHED = 0.5
"""Which share of the price without a cache is taken for one request; most of a conversation is in a cache."""
CAUTION = 1.25
"""By how much a request is taken for dearer than the mean before: a conversation grows."""


class Meter:
    """What one session has used."""

    def __init__(self, model: str = "", mean: float | None = None) -> None:
        self.model = model
        """The model of the session, as far as it is known; it is priced where an answer names none."""
        self._mean_before = mean
        """What a request has cost in the sessions before; None: not known."""
        self._done = Usage()
        self._told: float | None = None
        """Dollars of the whole session, where the agent itself counts them."""
        self._context = 0
        self._requests = self._requests_done = 0
        self._cost_told = False
        self._heard = Tokens()
        """Tokens that were told request by request in the turn under way."""

    @property
    def usage(self) -> Usage:
        """What is known to have been used, in finished turns and, where it is told, in the one under way."""
        so_far = self._done + self._priced({self.model: self._heard}) if self._heard.input else self._done
        if self._told is None:
            return so_far
        return Usage(
            so_far.input_tokens,
            so_far.cached_tokens,
            so_far.output_tokens,
            so_far.reasoning_tokens,
            self._told,
        )

    @property
    def requests(self) -> int:
        """Requests to the model that the turn under way seems to have made."""
        return self._requests

    @property
    def told(self) -> bool:
        """Whether a turn has ended and told what it has used."""
        return self._requests_done > 0

    def request(self) -> None:
        """The agent has begun a tool call: its model has answered, and will be asked again."""
        self._requests += 1

    def context(self, tokens: int, model: str = "") -> None:
        """The agent tells how many tokens its model now has in its context."""
        self._context, self.model = min(max(0, tokens), MOST), model or self.model

    def cost(self, dollars: float) -> None:
        """The agent tells what the session has cost so far: a number that does not fall."""
        if 0 <= dollars < math.inf:
            self._told, self._cost_told = max(dollars, self._told or 0.0), True

    def answer(self, told: Mapping[str, Any]) -> None:
        """The agent tells what a single request has used."""
        self._heard = _added(self._heard, _tokens(told, cached_apart=False))

    def begin(self) -> None:
        """A turn begins. What was told of one that has failed is kept."""
        if self._heard.input:
            self._done += self._priced({self.model: self._heard})
        self._requests, self._heard, self._cost_told = 0, Tokens(), False

    def end(self, response: PromptResponse) -> None:
        """A turn is over, and the agent tells what it has used.

        Gemini tells nothing of a turn that was cancelled: then what it may have cost is taken for its cost.
        """
        each, requests = self.each(), self._requests + 1  # the last one calls no tool
        models = _models(response.field_meta)
        if not models and response.usage and response.usage.total_tokens:
            models = {self.model: _tokens(response.usage.model_dump(by_alias=True, exclude_none=True))}
        if models:
            self._heard = Tokens()  # the same, told as a whole
            self._done += self._priced(models)
        if models or self._heard.input or self._cost_told:
            self._requests_done += requests
        elif response.stop_reason == "cancelled" and each is not None:
            self._done += Usage(dollars=each * requests)
        self.begin()

    def _priced(self, models: Mapping[str, Tokens]) -> Usage:
        """Tokens of several models with their price. One without a known price (such as `auto`) is taken for
        the dearest of the others."""
        known = sorted(filter(self._price, (*models, self.model)), key=self._price)
        total = Usage()
        for name, tokens in models.items():
            total += pricing.usage(tokens, name if name in known else known[-1] if known else name)
        if known:
            self.model = known[-1]
        return total

    @property
    def mean(self) -> float | None:
        """What a request has cost so far, in dollars; None: not known."""
        dollars = self.usage.dollars
        if self._requests_done and dollars:
            return dollars / self._requests_done
        return self._mean_before

    def each(self) -> float | None:
        """What one more request costs, in dollars, rather too much than too little; None: not known."""
        if self.mean is not None:
            return CAUTION * self.mean
        price = pricing.dollars(Tokens(self._context or CONTEXT, output=ANSWER), self.model)
        return None if price is None else UNCACHED * price

    def suppose(self, names: Iterable[str]) -> None:
        """If nobody knows the price of the session's model, take the dearest of these until one is told."""
        if not self._price(self.model):
            self.model = max([self.model, *names], key=self._price)

    def _price(self, model: str) -> float:
        """What a usual request costs with this model; 0: not known."""
        return pricing.dollars(Tokens(CONTEXT, output=ANSWER), model) or 0.0

    def guess(self) -> float | None:
        """What the session has cost by now, a request under way included; None: not known."""
        each, known = self.each(), self.usage.dollars
        if each is None:
            return known
        heard = self._requests if self._heard.input else 0  # these are in `usage` already
        return (known or 0.0) + each * (self._requests + 1 - heard)


def _models(meta: Any) -> dict[str, Tokens]:
    """Tokens by model, where an agent tells them in `_meta`; what is told in another form is passed over."""
    quota = meta.get("quota") if isinstance(meta, dict) else None
    used = quota.get("model_usage") if isinstance(quota, dict) else None
    return {
        str(one["model"]): _tokens(one["token_count"])
        for one in (used if isinstance(used, list) else [])
        if isinstance(one, dict) and "model" in one and isinstance(one.get("token_count"), dict)
    }


def _tokens(told: Mapping[str, Any], *, cached_apart: bool = True) -> Tokens:
    """Tokens by any of the names that agents give them.

    Most count input that was read from a cache or written to one apart; we count all of it as input.
    """

    def count(*names: str) -> int:
        values = [told.get(name) for name in names]
        return next((int(v) for v in values if isinstance(v, (int, float)) and 0 < v < MOST), 0)

    cached = count("cachedInputTokens", "cachedReadTokens", "cached_input_tokens")
    written = count("cachedWriteTokens", "cacheWriteInputTokens")
    return Tokens(
        input=count("inputTokens", "input_tokens") + (cached + written if cached_apart else 0),
        cached=cached,
        written=written,
        output=count("outputTokens", "output_tokens"),
        reasoning=count("reasoningOutputTokens", "thoughtTokens"),
    )


def _added(a: Tokens, b: Tokens) -> Tokens:
    return Tokens(
        a.input + b.input, a.cached + b.cached, a.written + b.written, output=a.output + b.output,
        reasoning=a.reasoning + b.reasoning,
    )  # fmt: skip
