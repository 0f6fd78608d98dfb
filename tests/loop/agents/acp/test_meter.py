"""What a session has used, as real agents tell it, and what a turn under way may have cost."""

from __future__ import annotations

from typing import Any

import pytest
from acp.schema import PromptResponse

from loop.agents.acp.meter import ANSWER, CAUTION, CONTEXT, UNCACHED, Meter
from loop.events import Usage

CLAUDE: dict[str, Any] = {
    "stopReason": "end_turn",
    "usage": {"inputTokens": 4000, "outputTokens": 200, "cachedReadTokens": 12000, "cachedWriteTokens": 800,
              "totalTokens": 17000},
    "_meta": {"quota": {"model_usage": [{"model": "claude-opus-5-5", "token_count": {
        "totalTokens": 21250, "inputTokens": 5000, "cachedInputTokens": 15000, "cachedWriteTokens": 1000,
        "outputTokens": 250, "reasoningOutputTokens": 0}}]}},
}  # fmt: skip
CODEX: dict[str, Any] = {
    "stopReason": "end_turn",
    "_meta": {"quota": {"model_usage": [{"model": "gpt-5-codex", "token_count": {
        "totalTokens": 17040, "inputTokens": 4800, "cachedInputTokens": 12000, "cacheWriteInputTokens": 0,
        "outputTokens": 240, "reasoningOutputTokens": 40}}]}},
}  # fmt: skip
GEMINI: dict[str, Any] = {
    "stopReason": "end_turn",
    "_meta": {"quota": {"token_count": {"input_tokens": 16800, "output_tokens": 240}, "model_usage": [
        {"model": "gemini-3.8-flash", "token_count": {"input_tokens": 4200, "output_tokens": 60}},
        {"model": "auto", "token_count": {"input_tokens": 12600, "output_tokens": 180}}]}},
}  # fmt: skip
QWEN = {"inputTokens": 4200, "outputTokens": 60, "totalTokens": 4260, "cachedReadTokens": 3000}


def after(*responses: dict[str, Any], meter: Meter | None = None) -> Usage:
    meter = meter or Meter()
    for response in responses:
        meter.begin()
        meter.end(PromptResponse.model_validate(response))
    return meter.usage


def test_the_usage_of_prompts_is_added() -> None:
    once, twice = after(CODEX), after(CODEX, CODEX)
    assert (once.input_tokens, once.cached_tokens, once.output_tokens) == (16800, 12000, 240)
    assert (twice.input_tokens, twice.cached_tokens, twice.reasoning_tokens) == (33600, 24000, 80)
    # gpt-5-codex: $1.25 in, $0.125 cached, $10 out, each a million tokens.
    assert once.dollars == pytest.approx((4800 * 1.25 + 12000 * 0.125 + 240 * 10) / 1e6)
    assert twice.dollars == pytest.approx(2 * (once.dollars or 0))


def test_all_models_of_a_turn_count_and_the_agents_own_dollars_come_first() -> None:
    meter = Meter()
    meter.cost(0.033)
    usage = after(CLAUDE, meter=meter)
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (21000, 15000, 250)
    assert usage.dollars == 0.033


def test_a_model_without_a_price_is_taken_for_the_dearest_beside_it() -> None:
    # gemini-3.8-flash: $0.75 in and $3.75 out, each a million tokens, by the installed table.
    counts = {"input_tokens": 16800, "output_tokens": 240}
    used = [{"model": "gemini-3.8-flash", "token_count": counts}]
    flash = after({"stopReason": "end_turn", "_meta": {"quota": {"model_usage": used}}})
    assert after(GEMINI).dollars == pytest.approx(flash.dollars)


def test_usage_that_is_told_request_by_request_counts_at_once_and_not_twice() -> None:
    meter = Meter("gpt-5-codex")
    meter.begin()
    for _ in range(3):
        meter.answer(QWEN)
    assert (meter.usage.input_tokens, meter.usage.cached_tokens) == (12600, 9000)
    meter.end(PromptResponse.model_validate({"stopReason": "end_turn"}))
    assert meter.usage.input_tokens == 12600
    meter.begin()
    meter.answer(QWEN)
    meter.begin()  # that turn has failed
    assert meter.usage.input_tokens == 16800


def test_a_guess_is_the_number_of_requests_times_the_mean_before() -> None:
    meter = Meter()
    meter.begin()
    for _ in range(3):
        meter.request()
    meter.end(PromptResponse.model_validate(CODEX))
    spent = meter.usage.dollars or 0.0
    assert meter.each() == pytest.approx(CAUTION * spent / 4)
    meter.begin()
    meter.request()
    assert meter.guess() == pytest.approx(spent + 2 * CAUTION * spent / 4)


def test_before_anything_is_told_the_guess_comes_from_the_tokens_in_the_context() -> None:
    meter = Meter("gpt-5-codex")
    meter.begin()
    meter.request()
    guess = meter.guess() or 0.0
    assert guess == pytest.approx(2 * UNCACHED * (CONTEXT * 1.25 + ANSWER * 10) / 1e6)
    meter.context(4260)
    assert 0.0 < (meter.guess() or 0.0) < guess


def test_what_sessions_before_have_cost_is_known_from_the_start() -> None:
    assert Meter("unknown", mean=0.01).each() == pytest.approx(CAUTION * 0.01)


def test_a_price_is_supposed_only_where_none_is_known() -> None:
    auto, own = Meter("auto"), Meter("gemini-3.8-flash")
    for meter in (auto, own):
        meter.suppose(["x", "gemini-3.8-flash", "gemini-2.5-pro"])
    assert (auto.model, own.model) == ("gemini-2.5-pro", "gemini-3.8-flash")


def test_a_cancelled_turn_of_which_nothing_is_told_is_not_free() -> None:
    meter = Meter(mean=0.01)
    meter.begin()
    meter.request()
    meter.end(PromptResponse.model_validate({"stopReason": "cancelled"}))
    assert meter.usage.dollars == pytest.approx(2 * CAUTION * 0.01)
    meter.end(PromptResponse.model_validate({"stopReason": "end_turn"}))  # one that has failed
    assert meter.usage.dollars == pytest.approx(2 * CAUTION * 0.01)


def test_nothing_is_guessed_without_a_price() -> None:
    meter = Meter("a model of my own")
    meter.request()
    assert meter.guess() is None
    meter.cost(0.5)
    assert meter.guess() == 0.5
