"""Limits as a line of text that a human reads and edits, and the goal at which a run has done its work. Pure.

experiments 100, hours 8, cost 20, crashes 10, until val_bpb < 1.2
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from loop.events import Limits

GOAL = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")
HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
NAMES = {
    "experiments": "max_experiments",
    "hours": "max_hours",
    "cost": "max_cost",
    "crashes": "max_crashes",
    "until": "until",
}
"""What each limit is called in the text, and its field."""


def goal(text: str, metric: str, direction: str) -> tuple[Callable[[float, float], bool], float]:
    """The comparison and the bound of a goal such as `val_bpb < 1.2`. Raises ValueError with a sentence."""
    found = GOAL.fullmatch(text)
    side = "<" if direction == "min" else ">"
    if not found or found[1] != metric or found[2][0] != side:
        raise ValueError(f'--until {text!r} must be such as "{metric} {side} 1.2"')
    try:
        return HOLDS[found[2]], float(found[3])
    except ValueError:
        raise ValueError(f"--until {text!r} must end with a number") from None


def parse(text: str, metric: str, direction: str) -> Limits:
    """The limits of a line of text; what is not named does not limit. Raises ValueError with a sentence."""
    values: dict[str, object] = dict.fromkeys(NAMES.values())
    values["until"] = ""
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition(" ")
        if name not in NAMES:
            raise ValueError(f"{part!r}: a limit is one of {', '.join(NAMES)}, and a value after it")
        if name == "until":
            goal(value, metric, direction)
            values["until"] = value.strip()
        else:
            values[NAMES[name]] = _number(name, value, whole=name in ("experiments", "crashes"))
    return Limits(**values)  # type: ignore[arg-type]


def _number(name: str, text: str, *, whole: bool) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise ValueError(
            f"{name} {text.strip()!r} must be {'a whole number' if whole else 'a number'} above 0"
        )
    return number


def reached(limits: Limits, best: float | None, metric: str, direction: str) -> str | None:
    """That the best value has reached the goal, as a sentence; None while it has not."""
    if not limits.until or best is None:
        return None
    try:
        holds, bound = goal(limits.until, metric, direction)
    except ValueError:  # a goal of an older version, or of another metric
        return None
    return f"goal reached: {metric} {best:.6f}, asked for {limits.until}" if holds(best, bound) else None
