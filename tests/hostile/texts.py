"""Texts that steer a terminal, mean markup, spread over the screen or are a formula; runs made of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from loop import events as ev

OSC = "\x1b]52;c;aGk=\x07"
TEXTS = {
    "clipboard": f"v{OSC}w",
    "unclosed": "v\x1b]0;everything that follows",
    "closing": "v[/nope]",
    "action": "[@click=app.quit]v[/]",
    "style": "[bold red on white]v[/] [link=http://evil]v[/]",
    "colour": "\x1b[31mv\x1b[2J\x9b2J\x1bc",
    "turned": "\u202etxet\u202c \u2066v\u2069\u200f",
    "lines": "v\r\nw\n\n\x85\u2028w\rz",
    "stacked": "v" + "\u0301\u0489" * 400,
    "fillers": "v" + "\u3164\uffa0\u115f" * 100,
    "wide": "漢字" * 300 + "🧪" * 50,
    "formula": "=cmd|' /C calc'!A0",
    "formula after a tab": "\t@SUM(1)",
    "surrogate": "v\ud800w",
    "dollar": "v$\\frac{$ %s {0} %(a)s",
    "brackets": "[" * 200,
    "html": "</script></pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'><b>",
    "nothing": "",
}


TOGETHER = {
    "everything": " ".join(TEXTS[name] for name in TEXTS if name not in ("lines", "unclosed")),
    "lines": TEXTS["lines"],
    "unclosed": TEXTS["unclosed"],
}
"""The same in few texts, where each takes long to show."""


def unsafe(text: str) -> list[str]:
    """What a terminal would obey, or what is hidden, in a text; new lines are no such thing."""
    odd = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [
        hex(ord(c))
        for c in set(text)
        if c != "\n" and (unicodedata.category(c) in odd or c in "\u3164\uffa0\u115f")
    ]


def longest_stack(text: str) -> int:
    """How many combining marks stand on one letter at most."""
    longest = run = 0
    for c in text:
        run = run + 1 if unicodedata.category(c) in ("Mn", "Me") else 0
        longest = max(longest, run)
    return longest


KEPT = {"tag", "repository", "commit", "parent", "base", "incumbent", "path"}
"""Fields whose text is no foreign one, or by which something is looked up. Only in a journal that a stranger
has written there may be anything in them."""


def poisoned(event: ev.AnyEvent, text: str, kept: Collection[str] = KEPT) -> ev.AnyEvent:
    """The same event with `text` in the place of each free text in it."""
    kinds = get_type_hints(type(event))
    changes: dict[str, Any] = {}
    for name, kind in kinds.items():
        value = getattr(event, name, None)
        origins = [get_origin(kind), *(get_origin(part) for part in get_args(kind))]
        if name in kept or Literal in origins:
            continue
        if isinstance(value, str) and kind is str and name != "id":
            changes[name] = text
        elif kind == list[str]:
            changes[name] = [text]
        elif isinstance(value, dict):
            whole = text.replace("\ud800", "")  # numbers of a training are kept as JSON
            changes[name] = {whole: whole}
    return msgspec.structs.replace(event, **changes) if changes else event
