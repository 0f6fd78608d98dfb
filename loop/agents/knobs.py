"""The literal hyperparameters of a training script: found with `ast`, changed in place with libcst.

A knob is a module-level assignment of a number or a truth value to an UPPER_CASE name. Its range is in its
comment, `MATRIX_LR = 0.02  # Muon learning rate [0.005, 0.08]`, or follows from the value. Where the script
has blocks headed `# --- hyperparameters: cpu ---`, only those of the block for this device count.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec import Struct

Value = bool | int | float

_RANGE = re.compile(r"#.*\[\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\]")
_HEADER = re.compile(r"#\s*---\s*(.*?)\s*---\s*$")
_LEAVE = re.compile(r"SEED|BUDGET|VOCAB|SEQ|CONTEXT|EVAL|^VAL_|TIME|VERSION|DEVICE|INTERVAL|EVERY")
"""Names that decide what is measured, not how well it is done; a range in the comment overrides this."""


class Knob(Struct, frozen=True):
    """One hyperparameter: its value now and the range worth trying. `line` counts from 1."""

    name: str
    value: Value
    low: float
    high: float
    line: int

    @property
    def log(self) -> bool:
        """Steps are factors, not differences."""
        return self.low > 0 and self.high / self.low >= 4

    def clip(self, value: float) -> Value:
        """The nearest value a script would be written with: in range, whole for ints, few digits."""
        value = min(max(value, self.low), self.high)
        if isinstance(self.value, bool):
            return value >= 0.5
        if isinstance(self.value, int):
            return round(value)
        return float(f"{value:.3g}")

    def neighbours(self) -> list[Value]:
        """Values one and two moderate steps away, nearest first; never the value of now."""
        if isinstance(self.value, bool):
            return [not self.value]
        now = float(self.value)
        if isinstance(self.value, int) and (now >= 16 and math.log2(now).is_integer()):
            steps = [now * 2, now / 2, now * 4, now / 4]
        elif isinstance(self.value, int) and abs(now) < 16:
            steps = [now + 1, now - 1, now + 2, now - 2]
        elif self.log and now > 0:
            steps = [now * 1.5, now / 1.5, now * 2.5, now / 2.5]
        else:
            width = self.high - self.low
            steps = [now + width / 6, now - width / 6, now + width / 3, now - width / 3]
        found: list[Value] = []
        for step in steps:
            value = self.clip(step)
            if value != self.value and value not in found:
                found.append(value)
        return found


@lru_cache(maxsize=4096)
def find(source: str, device: str = "cpu") -> tuple[Knob, ...]:
    """The knobs of a script, in the order they stand there; none when it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    lines = source.splitlines()
    wanted = _wanted(lines, device)
    knobs: dict[str, Knob] = {}
    for node in _assignments(tree.body):
        target = node.targets[0] if len(node.targets) == 1 else None
        value = _literal(node.value)
        if not isinstance(target, ast.Name) or value is None or (wanted and node.lineno not in wanted):
            continue
        knob = _knob(target.id, value, lines[node.lineno - 1], node.lineno)
        if knob:
            knobs[knob.name] = knob
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


def _assignments(body: list[ast.stmt]) -> list[ast.Assign]:
    """Assignments at module level, those inside a module-level `if` included."""
    found: list[ast.Assign] = []
    for node in body:
        if isinstance(node, ast.Assign):
            found.append(node)
        elif isinstance(node, ast.If):
            found += _assignments(node.body) + _assignments(node.orelse)
    return found


def _literal(node: ast.expr) -> Value | None:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    if isinstance(inner, ast.Constant) and isinstance(inner.value, bool | int | float):
        return -inner.value if negative else inner.value
    return None


def _knob(name: str, value: Value, line: str, number: int) -> Knob | None:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return None
    if isinstance(value, bool):
        return None if _LEAVE.search(name) else Knob(name, value, 0.0, 1.0, number)
    if given := _RANGE.search(line):
        try:
            low, high = sorted((float(given.group(1)), float(given.group(2))))
        except ValueError:
            return None
        return Knob(name, value, min(low, float(value)), max(high, float(value)), number)
    if _LEAVE.search(name) or value == 0 or not math.isfinite(value):
        return None
    low, high = sorted((value / 4, float(value * 4)))
    return Knob(name, value, max(low, 1.0) if isinstance(value, int) and value > 0 else low, high, number)


def change(source: str, values: Mapping[str, Value], knobs: tuple[Knob, ...]) -> str:
    """The script with these knobs set; everything else stays as it is, comments and spacing included."""
    import libcst as cst
    from libcst.metadata import MetadataWrapper, PositionProvider

    lines = {knob.line: knob.name for knob in knobs if knob.name in values}

    class Setter(cst.CSTTransformer):
        METADATA_DEPENDENCIES = (PositionProvider,)

        def leave_Assign(self, original: cst.Assign, updated: cst.Assign) -> cst.Assign:
            name = lines.get(self.get_metadata(PositionProvider, original).start.line)
            target = original.targets[0].target
            if name is None or not isinstance(target, cst.Name) or target.value != name:
                return updated
            return updated.with_changes(value=cst.parse_expression(show(values[name])))

    return MetadataWrapper(cst.parse_module(source)).visit(Setter()).code


def show(value: Value) -> str:
    """A value as it is written in a script."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)


@lru_cache(maxsize=4096)
def fingerprint(source: str) -> str:
    """The same for two scripts that differ in comments, docstrings and layout only."""
    import hashlib

    try:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        text = ast.dump(tree)
    except (SyntaxError, ValueError, RecursionError):
        text = source
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:] or [ast.Pass()]
