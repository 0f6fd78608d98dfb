"""What tokens cost, where anybody says so."""

from __future__ import annotations

import pytest

from loop.agents.pricing import Tokens, dollars, usage


def test_prices_are_known_or_said_to_be_unknown() -> None:
    tokens = Tokens(input=1_000_000, cached=500_000, output=100_000)
    assert dollars(tokens, "claude-opus-5-5", provider="anthropic") == pytest.approx(4.1)
    assert dollars(tokens, "gpt-6.1-terra", provider="openai") == pytest.approx(1.8)
    assert dollars(tokens, "no-such-model", provider="openai") is None
    assert dollars(tokens, "gpt-6.1-terra", url="http://127.0.0.1:8000/v1") is None
    assert dollars(tokens, "openai/gpt-5", url="https://openrouter.ai/api/v1") is not None
    assert usage(Tokens(input=5, output=7, reasoning=3), "x").reasoning_tokens == 3


def test_writing_to_a_cache_costs_more_the_longer_it_lasts() -> None:
    short = dollars(Tokens(input=1_000_000, written=1_000_000), "claude-opus-5-5", provider="anthropic")
    long = dollars(Tokens(input=1_000_000, written_1h=1_000_000), "claude-opus-5-5", provider="anthropic")
    assert short == pytest.approx(5.0)
    assert long == pytest.approx(8.0)


def test_usage_counts_tokens_even_without_a_price() -> None:
    used = usage(Tokens(input=9, cached=4, output=2), "no-such-model", provider="openai")
    assert (used.input_tokens, used.cached_tokens, used.output_tokens, used.dollars) == (9, 4, 2, None)
