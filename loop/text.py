"""Text from outside made safe to show, write and send on. Pure."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


def clean(text: str) -> str:
    """Text without escape sequences, control characters and bidi overrides; newlines and tabs stay."""
    if text.isprintable():
        return text
    text = _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(
        c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )


def tail(text: str, lines: int = 50) -> str:
    """The last lines of a log, cleaned, long lines cut."""
    return "\n".join(line[:500] for line in clean(text).splitlines()[-lines:])


def without(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without secrets."""
    for secret in secrets:
        text = text.replace(secret, "[key]") if secret else text
    return text
