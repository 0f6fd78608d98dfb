"""What tokens cost. Prices come from genai-prices; a model it does not know has none, and that is said."""

from __future__ import annotations

from msgspec import Struct

from loop.events import Usage


class Tokens(Struct, frozen=True):
    """One answer's tokens. `input` counts all of it: fresh, read from a cache and written to one."""

    input: int = 0
    cached: int = 0
    written: int = 0
    """Written to a five-minute cache."""
    written_1h: int = 0
    output: int = 0
    """All output, reasoning included."""
    reasoning: int = 0


def usage(tokens: Tokens, model: str, *, provider: str = "", url: str = "") -> Usage:
    """`Usage` with dollars where the price is known: of a `provider`, or of whoever serves `url`."""
    return Usage(
        tokens.input,
        tokens.cached,
        tokens.output,
        tokens.reasoning,
        dollars(tokens, model, provider=provider, url=url),
    )


def dollars(tokens: Tokens, model: str, *, provider: str = "", url: str = "") -> float | None:
    """The price, or None when nobody has told it."""
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
