"""What is known of a setting of a run: the struct fields of `loop.config.Settings` are annotated with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import msgspec

FINITE = 1e9
"""As an upper bound it refuses infinity, and what nobody means: so many seconds are thirty years."""
LARGEST = 1_000_000
"""Whole numbers may be no larger: they count experiments, trainings, turns, crashes."""


def about(
    description: str,
    *,
    flag: str = "",
    title: str | None = None,
    unit: str = "",
    risk: str = "",
    harmless: Callable[[Any], bool] | None = None,
    **bounds: Any,
) -> msgspec.Meta:
    """What is known of a setting beside its type and default; --help and error messages are made from it.

    `flag` is its name on the command line, empty if it has none there. `title` is its name in an error
    message; without one that is the flag. `risk` says what a stranger's repository could do with it, with
    `{}` for the value, if there is a risk; values that are `harmless` count all the same. `bounds` are
    numbers for msgspec's gt, ge and le.
    """
    extra = {"flag": flag, "unit": unit, "risk": risk, "harmless": harmless}
    meta: msgspec.Meta = msgspec.Meta(description=description, title=title, extra=extra, **bounds)
    return meta


class Setting(msgspec.Struct, frozen=True):
    """One field of `Settings` as the struct describes it."""

    name: str
    type: Any
    """int, float, bool, str, list[str] or a Literal; that None may be set, too, is left out."""
    default: Any
    meta: msgspec.Meta

    @property
    def flag(self) -> str:
        """Its name on the command line; empty when it can only be set in autoresearch.toml."""
        return str((self.meta.extra or {})["flag"])

    @property
    def called(self) -> str:
        """Its name in an error message."""
        return self.meta.title or self.flag or f"`{self.name}`"

    @property
    def unit(self) -> str:
        """What its number counts, such as `seconds`; empty for a plain number."""
        return str((self.meta.extra or {})["unit"])

    @property
    def risk(self) -> str:
        """What a stranger's repository could do with it; empty when nothing bad."""
        return str((self.meta.extra or {})["risk"])

    def is_harmless(self, value: object) -> bool:
        """Whether a stranger's repository may set it to this value."""
        harmless = (self.meta.extra or {})["harmless"]
        return not self.risk or value == self.default or bool(harmless and harmless(value))

    def requirement(self, value: object) -> str:
        """The sentence that refuses a value and says which ones are allowed."""
        name, least, most = self.called, self.meta.ge, self.meta.le
        if get_origin(self.type) is Literal:
            *choices, last = get_args(self.type)
            return f"{name} {value!r} must be {', '.join(choices)} or {last}"
        if most == FINITE and isinstance(value, int | float) and value > FINITE:
            return f"{name} must be at most {FINITE:,.0f}"
        if self.meta.gt is not None:
            return f"{name} must be more than {self.meta.gt} {self.unit}".rstrip()
        return (
            f"{name} must be {least} or more"
            if most in (None, FINITE)
            else f"{name} must be {least} to {most}"
        )
