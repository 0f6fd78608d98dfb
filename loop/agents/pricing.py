"""Computes what tokens cost, by the prices in genai-prices. Models that it does not know have no price."""

from __future__ import annotations

from msgspec import Struct

from loop.events import Usage


class Tokens(Struct, frozen=True):
    """How many tokens one answer took."""

    input: int = 0
    """All input: new, read from a prompt cache and written to one."""
    cached: int = 0
    """Input read from a prompt cache."""
    written: int = 0
    """Input written to a prompt cache that lasts five minutes."""
    written_1h: int = 0
    """Input written to a prompt cache that lasts an hour."""
    output: int = 0
    """All output, reasoning included."""
    reasoning: int = 0
    """Output that is reasoning."""


def usage(tokens: Tokens, model: str, *, provider: str = "", url: str = "") -> Usage:
    """These tokens as a `Usage`, with their price where `dollars` knows it."""
    return Usage(
        tokens.input,
        tokens.cached,
        tokens.output,
        tokens.reasoning,
        dollars(tokens, model, provider=provider, url=url),
    )


def dollars(tokens: Tokens, model: str, *, provider: str = "", url: str = "") -> float | None:
    """The price in dollars at `provider`, or at the server behind `url`; None when it is not known."""
    from genai_prices import Usage as Priced
    from genai_prices import calc_price

    spent = Priced(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written + tokens.written_1h,
        cache_write_5m_tokens=tokens.written,
        cache_write_1h_tokens=tokens.written_1h,
        output_tokens=tokens.output,
    )
    try:
        if url:
            return float(calc_price(spent, model, provider_api_url=url).total_price)
        return float(calc_price(spent, model, provider_id=provider or None).total_price)
    except (LookupError, ValueError):
        return None
