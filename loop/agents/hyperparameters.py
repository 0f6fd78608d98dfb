"""The hyperparameters of a training script: found in its syntax tree, and set without touching anything else.

A hyperparameter is a number or a truth value that the script assigns to an UPPER_CASE name outside of
functions and classes. Its range stands in its comment, `MATRIX_LR = 0.02 # Muon learning rate [0.005, 0.08]`;
without one, the range goes from a quarter of the value to four times the value. Some scripts have blocks that
begin with a line such as `# --- hyperparameters: cpu ---`; then only the block of the given device counts.
"""

from __future__ import annotations

import ast
import math
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from loop.agents import program

Value = bool | int | float

_RANGE = re.compile(r"#.*\[\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\]")
_HEADER = re.compile(r"#\s*---\s*(.*?)\s*---\s*$")
_NOT_VARIED = re.compile(r"SEED|BUDGET|VOCAB|SEQ|CONTEXT|EVAL|^VAL_|TIME|VERSION|DEVICE|INTERVAL|EVERY")
"""Names of numbers that decide what is measured, and not how good the model becomes. They are not varied,
unless their comment gives a range."""
_MULTIPLE = re.compile(r"#.*\bmultiple of ([A-Z][A-Z0-9_]*|\d+)")
_NEEDS = re.compile(r"#.*\bonly with ([A-Z][A-Z0-9_]*)\b(?!-)")
STEPS = (0.08, 0.15, 0.25, 0.4)
"""How far the values worth trying lie from the present value, as shares of the range."""


LARGEST = 1e300
"""Numbers beyond this are no hyperparameters: their multiples are no floats any more."""


class Hyperparameter(Struct, frozen=True):
    """One hyperparameter: its present value and the range worth trying. `line` counts from 1."""

    name: str
    value: Value
    low: float
    high: float
    line: int
    multiple: str = ""
    """What its value must be a multiple of: a number, or another hyperparameter's name. Empty for nothing."""
    needs: str = ""
    """Another hyperparameter without which it does nothing: while that has the lowest value of its range.
    Empty for none."""

    @property
    def log(self) -> bool:
        """Whether the range is so wide that a step multiplies the value instead of adding to it."""
        return self.low > 0 and self.high / self.low >= 4

    def clip(self, value: float) -> Value:
        """The nearest allowed value, of the right type: within the range, whole numbers about as round as the
        present one, other numbers with three digits."""
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
        """Whole numbers move by multiples of this, half the largest power of two that divides the present
        value: 128 may become 64 or 192, 100 may become 106, and 7 may become 8."""
        now = abs(int(self.value))
        return max(1, (now & -now) // 2) if now >= 16 else 1

    def place(self, value: Value) -> float:
        """Where a value lies in the range: 0 at its lower end, 1 at its upper end. Logarithmic if `log`."""
        if self.high <= self.low:
            return 0.0
        if not self.log:
            return (float(value) - self.low) / (self.high - self.low)
        return math.log(max(float(value), 1e-300) / self.low) / math.log(self.high / self.low)

    def at(self, place: float) -> Value:
        """The value at a place of the range: the inverse of `place`."""
        place = min(max(place, 0.0), 1.0)
        if self.log:
            return self.clip(self.low * (self.high / self.low) ** place)
        return self.clip(self.low + place * (self.high - self.low))

    def steps(self) -> list[Value]:
        """Values worth trying, some near the present value and some far from it; never the present value."""
        if isinstance(self.value, bool):
            return [not self.value]
        now, here = float(self.value), self.place(self.value)
        steps = [self.at(here + sign * step) for step in STEPS for sign in (1, -1)]
        if isinstance(self.value, int):
            steps += [self.clip(v) for v in (now + self._grain, now - self._grain, now * 2, now / 2)]
        return [value for value in dict.fromkeys(steps) if value != self.value]


def device() -> str:
    """Which block of hyperparameters the editable file uses on this machine: `cuda` or `cpu`."""
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


@lru_cache(maxsize=4096)
def find(source: str, device: str = "cpu") -> tuple[Hyperparameter, ...]:
    """The hyperparameters of a script, in the order of their lines; none when the script does not parse."""
    try:
        statements = program.statements(source)
    except program.UNREADABLE:
        return ()
    lines = source.split("\n")  # as Python counts them
    wanted = _lines_of_blocks(lines, device)
    found: dict[str, Hyperparameter] = {}
    for statement in statements:
        for line, name, value in _assigned(statement.text):
            number = statement.line + line
            if wanted and number not in wanted:
                continue
            if hyperparameter := _from_assignment(name, value, lines[number - 1], number):
                found[name] = hyperparameter
    return tuple(found.values())


@lru_cache(maxsize=program.STATEMENTS)
def _assigned(text: str) -> tuple[tuple[int, str, Value], ...]:
    """Line, name and value of each assignment of a number in a statement."""
    return tuple((node.lineno, name, value) for node, name, value in _assignments(ast.parse(text).body))


def _lines_of_blocks(lines: list[str], device: str) -> set[int]:
    """Numbers of the lines in the hyperparameter blocks of this device; empty when there are no blocks."""
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
    """Node, name and value of each assignment of a number, those inside a module-level `if` included."""
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
    """The value of a number, a negative number, a truth value or a small power such as 2**18."""
    match node:
        case ast.Constant(value=bool() | int() | float() as value) if value < LARGEST:
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if (
            value < LARGEST
        ):
            return -value
        case ast.BinOp(
            left=ast.Constant(value=int() as base), op=ast.Pow(), right=ast.Constant(value=int() as power)
        ) if 0 < base <= 64 and 0 <= power <= 64:
            return int(base**power)
    return None


def _from_assignment(name: str, value: Value, line: str, number: int) -> Hyperparameter | None:
    """The hyperparameter that a line assigns; None when its name, value or range rules it out."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return None
    multiple, needs = _MULTIPLE.search(line), _NEEDS.search(line)
    of, other = multiple.group(1) if multiple else "", needs.group(1) if needs else ""
    if isinstance(value, bool):
        return None if _NOT_VARIED.search(name) else Hyperparameter(name, value, 0.0, 1.0, number, of, other)
    if given := _RANGE.search(line):
        try:
            low, high = sorted((float(given.group(1)), float(given.group(2))))
        except ValueError:
            return None
        if not math.isfinite(high - low):
            return None
        return Hyperparameter(name, value, min(low, float(value)), max(high, float(value)), number, of, other)
    if _NOT_VARIED.search(name) or value == 0 or not math.isfinite(value):
        return None
    low, high = sorted((value / 4, float(value * 4)))
    low = max(low, 1.0) if isinstance(value, int) and value > 0 else low
    return Hyperparameter(name, value, low, high, number, of, other)


def fits(setting: Mapping[str, Value], found: tuple[Hyperparameter, ...]) -> bool:
    """Whether each value of a setting is a multiple of what its comment demands."""
    for hyperparameter in found:
        multiple = hyperparameter.multiple
        of = int(multiple) if multiple.isdigit() else setting.get(multiple, 0)
        if of and float(setting[hyperparameter.name]) % float(of):
            return False
    return True


@lru_cache(maxsize=4096)
def code(source: str, device: str = "cpu") -> str:
    """A fingerprint of a script without the values of its hyperparameters: the same for two scripts that
    differ in these values only."""
    try:
        statements = program.statements(source)
    except program.UNREADABLE:
        return program.fingerprint(source)
    starts = [statement.line for statement in statements]
    left_out: dict[int, list[tuple[int, str]]] = {}
    for h in find(source, device):
        i = bisect_left(starts, h.line) - 1
        left_out.setdefault(i, []).append((h.line - starts[i], h.name))
    return program.joined(
        each
        for i, statement in enumerate(statements)
        for each in _hashes_without(statement.text, tuple(left_out.get(i, ())))
    )


@lru_cache(maxsize=program.STATEMENTS)
def _hashes_without(text: str, values: tuple[tuple[int, str], ...]) -> tuple[str, ...]:
    """The hashes of a statement whose values do not matter where they are assigned in one of these lines to
    one of these names."""
    tree = ast.parse(text)
    for node, name, _ in _assignments(tree.body):
        if (node.lineno, name) in values:
            node.value = ast.Constant(0)
    return program.hashes_of_tree(tree)


def change(source: str, values: Mapping[str, Value], found: tuple[Hyperparameter, ...]) -> str:
    """The script with new `values` of some of its hyperparameters. Everything else stays as it is,
    comments and spacing included."""
    lines = {(h.line, h.name) for h in found if h.name in values}
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
