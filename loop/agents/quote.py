"""Quotes text from files, logs and results as data for a model, and cuts what is too long. Pure."""

from __future__ import annotations

import re
from typing import Literal

from loop.text import clean

_TAG = re.compile(r"<(\s*/?\s*data)", re.IGNORECASE)

Part = Literal["start", "end", "both"]
"""Which end of a text that is too long is kept."""


def quoted(name: str, text: str, most: int | None = None, keep: Part = "start") -> str:
    """`text` between `<data>` tags, without control characters, and cut to about `most` bytes.

    Tags inside the text are made harmless: it cannot end its own quotation.
    """
    inside = _TAG.sub(r"<\\\1", clean(text).rstrip("\n"))
    inside = inside if most is None else cut(inside, most, keep)
    return f'<data name="{" ".join(clean(name).split())}">\n{inside}\n</data>'


def size(text: str) -> int:
    """Bytes of a text in UTF-8. No tokenizer makes more tokens than that, whatever the language."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, most: int, keep: Part = "start") -> str:
    """About `most` bytes of a text: its start, its end, or half of them from each, with a line that says how
    many bytes are left out."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return text
    most = max(0, most)
    left = f"[... {len(raw) - most:,} bytes left out ...]"
    first = {"start": most, "end": 0}.get(keep, most // 2)
    head, tail = raw[:first], raw[len(raw) - (most - first) :]
    return "\n".join(part for part in (_whole(head), left, _whole(tail)) if part)


def _whole(piece: bytes) -> str:
    """The characters of a piece of UTF-8, without those that the cut has split."""
    return piece.decode("utf-8", "ignore")
