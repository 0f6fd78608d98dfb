"""Marks text from files, logs and results as data for a model, and keeps it short. Pure."""

from __future__ import annotations

import re

from loop.text import clean

_TAG = re.compile(r"<(\s*/?\s*data)", re.IGNORECASE)


def fence(name: str, text: str, most: int | None = None, keep: str = "start") -> str:
    """`text` between `<data>` tags it cannot close itself, without control characters, cut to `most`
    bytes."""
    inside = _TAG.sub(r"<\\\1", clean(text).rstrip("\n"))
    inside = inside if most is None else cut(inside, most, keep)
    return f'<data name="{" ".join(clean(name).split())}">\n{inside}\n</data>'


def size(text: str) -> int:
    """Bytes of UTF-8: no tokenizer makes more tokens than that, whatever the language."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, most: int, keep: str = "start") -> str:
    """About `most` bytes of a text, and a word on the rest: its start, its end, or both its ends."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return text
    most = max(0, most)
    left = f"[... {len(raw) - most:,} bytes left out ...]"
    first = {"start": most, "end": 0}.get(keep, most // 2)
    head, tail = raw[:first], raw[len(raw) - (most - first) :]
    return "\n".join(part for part in (_whole(head), left, _whole(tail)) if part)


def _whole(piece: bytes) -> str:
    """The characters of a piece that are not cut through."""
    return piece.decode("utf-8", "ignore")
