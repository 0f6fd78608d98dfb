"""Marks text from files, logs and results as data for a model. Pure."""

from __future__ import annotations

import re

from loop.progress import clean

_TAG = re.compile(r"<(/?)data", re.IGNORECASE)


def fence(name: str, text: str) -> str:
    """`text` between `<data>` tags it cannot close itself, without control characters."""
    inside = _TAG.sub(r"<\\\1data", clean(text).rstrip("\n"))
    return f'<data name="{clean(name)}">\n{inside}\n</data>'


def cut(text: str, most: int, keep: str = "start") -> str:
    """At most about `most` characters: the start, the end, or both ends of a text, and a word on the rest."""
    if len(text) <= most:
        return text
    left = f"[... {len(text) - most:,} characters left out ...]"
    if keep == "end":
        return f"{left}\n{text[-most:]}"
    if keep == "both":
        return f"{text[: most // 2]}\n{left}\n{text[-(most - most // 2) :]}"
    return f"{text[:most]}\n{left}"
