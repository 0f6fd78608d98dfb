"""Makes text from outside safe to show, to write and to send on: no control characters, no secrets. Pure."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of characters that steer a terminal or reorder text instead of being shown."""
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that show nothing and may take columns all the same."""
_MARKS_MOST = 4
"""Marks that may stand on one letter. Written languages need three; a thousand cover the lines around."""
_KEY_SHAPE = re.compile(r"\b(sk|key|pk)-[\w*.-]{4,}")
"""An API key, whole or as providers shorten it in their messages (`sk-ab***yz`)."""
_LOGIN = re.compile(r"(?<=://)([^/\s?#<>\"]+)@")
"""Name and password, or a token alone, in an address. A password may have an @ in it."""
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "AUTORESEARCH_NOTIFY")
"""Words in the names of environment variables whose values are secret. The addresses in AUTORESEARCH_NOTIFY
hold passwords and tokens of the services that notifications are sent through."""


def clean(text: str) -> str:
    """Text without escape sequences, control characters, bidi overrides and fillers; newlines and tabs stay.

    Of the marks that are stacked on one letter a few stay.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    # Few different characters occur in a text: looking at each of them once is ten times faster.
    kinds = {c: unicodedata.category(c) for c in set(text) - {"\n", "\t"}}
    invisible = [c for c, kind in kinds.items() if kind in _INVISIBLE or c in _FILLERS]
    if invisible:
        text = text.translate(dict.fromkeys(map(ord, invisible)))
    marks = "".join(c for c, kind in kinds.items() if kind in ("Mn", "Me") and c not in _FILLERS)
    return re.sub(f"([{marks}]{{{_MARKS_MOST}}})[{marks}]+", r"\1", text) if marks else text


def one_line(text: str, most: int = 300) -> str:
    """Foreign text such as a name, a path or an error as one clean line of at most `most` characters."""
    return " ".join(clean(text).split())[:most]


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: a file's name may hold any bytes, and JSON halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted(count: int, thing: str) -> str:
    """`1 training`, `2 trainings`, `3 crashes`."""
    return f"{count:,} {thing}{'' if count == 1 else 'es' if thing.endswith('sh') else 's'}"


def tail(text: str, lines: int = 50) -> str:
    """The last `lines` lines of a log, cleaned, each cut to 500 characters."""
    return "\n".join(line[:500] for line in clean(text).splitlines()[-lines:])


def without(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with `[key]` in the place of each secret."""
    for secret in secrets:
        text = text.replace(secret, "[key]") if secret else text
    return text


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """An error message on one line of at most 300 characters, without secrets and what looks like a key."""
    text = _KEY_SHAPE.sub("[key]", without(text, secrets))
    return one_line(text)


def names_a_secret(variable: str) -> bool:
    """Whether the environment variable of this name holds a secret, as `OPENAI_API_KEY` does."""
    name = variable.upper()
    return any(word in name for word in _SECRET_WORDS)


def is_secret(variable: str, value: str) -> bool:
    """Whether an environment variable is for the one it was set for alone: by its name, or because it holds
    an address with a password. A proxy's address is for everybody who needs the network."""
    return names_a_secret(variable) or (bool(logins(value)) and not variable.upper().endswith("PROXY"))


def logins(text: str) -> list[str]:
    """What stands before the `@` of addresses with a password, such as `user:password`."""
    return [login for login in _LOGIN.findall(text) if ":" in login]


def without_logins(text: str) -> str:
    """The text with its addresses as they are without name and password."""
    return _LOGIN.sub("", text)
