"""The literal hyperparameters of a training script: found with `ast`, changed in place.

A knob is a module-level assignment of a number or a truth value to an UPPER_CASE name. Its range is in its
comment, `MATRIX_LR = 0.02  # Muon learning rate [0.005, 0.08]`, or follows from the value. Where the script
has blocks headed `# --- hyperparameters: cpu ---`, only those of the block for this device count.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from msgspec import Struct

from loop.agents import program
from loop.agents.program import fingerprint

Value = bool | int | float

_RANGE = re.compile(r"#.*\[\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\]")
_HEADER = re.compile(r"#\s*---\s*(.*?)\s*---\s*$")
_LEAVE = re.compile(r"SEED|BUDGET|VOCAB|SEQ|CONTEXT|EVAL|^VAL_|TIME|VERSION|DEVICE|INTERVAL|EVERY")
"""Names that decide what is measured, not how well it is done; a range in the comment overrides this."""

_MULTIPLE = re.compile(r"#.*\bmultiple of ([A-Z][A-Z0-9_]*|\d+)")
STEPS = (0.08, 0.15, 0.25, 0.4)
"""Steps away from the value of now, in shares of the range."""


class Knob(Struct, frozen=True):
    """One hyperparameter: its value now and the range worth trying. `line` counts from 1."""

    name: str
    value: Value
    low: float
    high: float
    line: int
    multiple: str = ""
    """What it must be a multiple of: a number, or the name of another knob."""

    @property
    def log(self) -> bool:
        """Steps are factors, not differences."""
        return self.low > 0 and self.high / self.low >= 4

    def clip(self, value: float) -> Value:
        """The nearest value a script would be written with: in range, round for ints, few digits."""
        if isinstance(self.value, bool):
            return value >= 0.5
        if isinstance(self.value, int):
            grain = self._grain
            value = min(max(value, self.low), self.high)
            low, high = math.ceil(self.low / grain) * grain, math.floor(self.high / grain) * grain
            return int(min(max(round(value / grain) * grain, low), high)) if low <= high else round(value)
        return float(f"{min(max(value, self.low), self.high):.3g}")

    @property
    def _grain(self) -> int:
        """Ints stay about as round as they are: 128 becomes 64 or 192, 100 becomes 106, 7 becomes 8."""
        now = abs(int(self.value))
        return max(1, (now & -now) // 2) if now >= 16 else 1

    def place(self, value: Value) -> float:
        """Where a value lies in the range, 0 to 1; equal steps matter about equally."""
        if self.high <= self.low:
            return 0.0
        if not self.log:
            return (float(value) - self.low) / (self.high - self.low)
        return math.log(max(float(value), 1e-300) / self.low) / math.log(self.high / self.low)

    def at(self, place: float) -> Value:
        """The value at a place of the range."""
        place = min(max(place, 0.0), 1.0)
        if self.log:
            return self.clip(self.low * (self.high / self.low) ** place)
        return self.clip(self.low + place * (self.high - self.low))

    def steps(self) -> list[Value]:
        """Values worth trying, some near and some far; never the value of now."""
        if isinstance(self.value, bool):
            return [not self.value]
        now, here = float(self.value), self.place(self.value)
        steps = [self.at(here + sign * step) for step in STEPS for sign in (1, -1)]
        if isinstance(self.value, int):
            steps += [self.clip(v) for v in (now + self._grain, now - self._grain, now * 2, now / 2)]
        return [value for value in dict.fromkeys(steps) if value != self.value]


@lru_cache(maxsize=4096)
def find(source: str, device: str = "cpu") -> tuple[Knob, ...]:
    """The knobs of a script, in the order they stand there; none when it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    lines = source.split("\n")  # as Python counts them
    wanted = _wanted(lines, device)
    knobs: dict[str, Knob] = {}
    for node, name, value in _assignments(tree.body):
        if wanted and node.lineno not in wanted:
            continue
        if knob := _knob(name, value, lines[node.lineno - 1], node.lineno):
            knobs[name] = knob
    return tuple(knobs.values())


def _wanted(lines: list[str], device: str) -> set[int]:
    """Line numbers inside the hyperparameter blocks of this device; empty when there are no blocks."""
    wanted, inside, any_block = set(), False, False
    for number, line in enumerate(lines, 1):
        if header := _HEADER.search(line):
            title = header.group(1).lower()
            block = title.startswith("hyperparameters")
            any_block |= block
            inside = block and (":" not in title or title.split(":")[1].strip() == device)
        elif inside:
            wanted.add(number)
    return wanted if any_block else set()


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[ast.Assign | ast.AnnAssign, str, Value]]:
    """Name and number of the assignments at module level, those inside a module-level `if` included."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _assignments(node.body)
            yield from _assignments(node.orelse)
        elif (isinstance(node, ast.Assign) and len(node.targets) == 1) or isinstance(node, ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            value = _literal(node.value) if node.value else None
            if isinstance(target, ast.Name) and value is not None:
                yield node, target.id, value


def _literal(node: ast.expr) -> Value | None:
    """A number, a negative one, a truth value, or a small power such as 2**18."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.BinOp(
            left=ast.Constant(value=int() as base), op=ast.Pow(), right=ast.Constant(value=int() as power)
        ) if 0 < base <= 64 and 0 <= power <= 64:
            return int(base**power)
    return None


def _knob(name: str, value: Value, line: str, number: int) -> Knob | None:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return None
    if isinstance(value, bool):
        return None if _LEAVE.search(name) else Knob(name, value, 0.0, 1.0, number)
    multiple = _MULTIPLE.search(line)
    of = multiple.group(1) if multiple else ""
    if given := _RANGE.search(line):
        try:
            low, high = sorted((float(given.group(1)), float(given.group(2))))
        except ValueError:
            return None
        if not math.isfinite(high - low):
            return None
        return Knob(name, value, min(low, float(value)), max(high, float(value)), number, of)
    if _LEAVE.search(name) or value == 0 or not math.isfinite(value):
        return None
    low, high = sorted((value / 4, float(value * 4)))
    low = max(low, 1.0) if isinstance(value, int) and value > 0 else low
    return Knob(name, value, low, high, number, of)


def fits(setting: Mapping[str, Value], knobs: tuple[Knob, ...]) -> bool:
    """Every knob is a multiple of what it must be, where that is known."""
    for knob in knobs:
        of = setting.get(knob.multiple, 0) if not knob.multiple.isdigit() else int(knob.multiple)
        if of and float(setting[knob.name]) % float(of):
            return False
    return True


@lru_cache(maxsize=4096)
def code(source: str, device: str = "cpu") -> str:
    """A fingerprint of everything but the values of the knobs: the same code, however it is set."""
    values = {(knob.line, knob.name) for knob in find(source, device)}
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return fingerprint(source)
    for node, name, _ in _assignments(tree.body):
        if (node.lineno, name) in values:
            node.value = ast.Constant(0)
    return program.of_tree(tree)


def change(source: str, values: Mapping[str, Value], knobs: tuple[Knob, ...]) -> str:
    """The script with these knobs set; everything else stays as it is, comments and spacing included."""
    lines = {(knob.line, knob.name) for knob in knobs if knob.name in values}
    rows = source.encode().split(b"\n")
    for node, name, _ in reversed(list(_assignments(ast.parse(source).body))):
        old = node.value
        if (node.lineno, name) in lines and old is not None and old.lineno == old.end_lineno:
            row = rows[old.lineno - 1]
            rows[old.lineno - 1] = (
                row[: old.col_offset] + show(values[name]).encode() + row[old.end_col_offset :]
            )
    return b"\n".join(rows).decode()


def show(value: Value) -> str:
    """A value as it is written in a script."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)
