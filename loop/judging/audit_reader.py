"""Finds every place in a source that does something which training does not need."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from loop.judging.audit_names import (
    ALLOWED_VARIABLE,
    CALLS,
    FOLDERS,
    HELD_OUT,
    HOOKS,
    INNER,
    MEASURING,
    MODULES,
    PROCESS_CALLS,
    PROTECTED,
    SWITCHES,
    SYSTEM_FOLDERS,
    VARIABLES,
    Kind,
)


class Finding(Struct, frozen=True):
    """One thing that a change does and that someone should know."""

    kind: Kind
    line: int
    text: str
    refused: bool

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class Remark(NamedTuple):
    """What one place of the source does, and whether that is refused."""

    kind: Kind
    text: str
    refused: bool = True


Assignment = ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete | ast.For


class Reader:
    """Walks the syntax tree of one source.

    Names are resolved through the imports of the file: with `import torch.nn.functional as F`,
    `F.cross_entropy` is `torch.nn.functional.cross_entropy`.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = _imported(tree)
        self._modules = {name.split(".")[0] for name in self._names.values()}
        self._read_by_key = _read_by_key(tree)
        self._scores = _scores(tree)
        self._has_evaluator = any(_evaluates(node) for node in ast.walk(tree))

    def found(self) -> Iterator[tuple[str, Finding]]:
        """Each finding with a key. Two places that do the same have equal keys, whatever their lines."""
        for node in ast.walk(self._tree):
            for kind, text, refused in self._look(node):
                line = getattr(node, "lineno", 1)
                yield f"{kind} {text} {ast.dump(node)}", Finding(kind, line, text, refused)

    def _look(self, node: ast.AST) -> Iterator[Remark]:
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from self._import(node)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete() | ast.For():
                for target in _targets(node):
                    yield from self._assign(target)
            case ast.Call():
                yield from self._call(node)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                if name in HOOKS or self._is_from_prepare(name):
                    yield Remark("evaluation", f"redefines {name}")
            case ast.Name(id=name) if name in INNER or name in HOOKS:
                yield Remark("introspection", f"reaches into {name}")
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.Constant(value=str(text)):
                if text.startswith(VARIABLES) and text != ALLOWED_VARIABLE:
                    yield Remark("environment", f"names {text[:40]}")
                elif text.startswith(SYSTEM_FOLDERS):
                    yield Remark("files", f"names {text[:40]}")
            case ast.Subscript(slice=ast.Constant(value=str(text))) if text in HELD_OUT:
                yield Remark("data", f"reads the split {text!r}")

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Remark]:
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            if kind := MODULES.get(module.split(".")[0]):
                yield Remark(kind, f"imports {module}")
            elif module == "torch.overrides" or module.startswith("torch.utils._python_dispatch"):
                yield Remark("patch", f"imports {module}")
            if module.split(".")[-1] in MEASURING:
                yield Remark("evaluation", f"imports {module} past prepare")
        if isinstance(node, ast.ImportFrom) and _is_protected(node.module):
            for alias in node.names:
                if alias.name.startswith("_") or alias.name in ("*", "identity", *FOLDERS):
                    yield Remark("evaluation", f"imports {alias.name} from prepare")

    def _assign(self, target: ast.expr) -> Iterator[Remark]:
        """What it means that `target` gets a value, or is deleted."""
        shown = ast.unparse(target)[:60]
        if isinstance(target, ast.Name):
            if self._is_from_prepare(target.id) and target.id[0].islower():
                yield Remark("evaluation", f"gives {target.id} another meaning")
            return
        while isinstance(target, ast.Subscript | ast.Starred):
            target = target.value
        name = self._name(target) or ""
        if name.startswith("os.environ"):
            yield Remark("environment", f"sets {shown}")
        elif name in self._names.values() or self._is_of_module(name):
            if not name.startswith(SWITCHES):
                yield Remark("patch", f"patches {name}")
        elif isinstance(target, ast.Attribute) and _is_clock(target):
            yield Remark("clock", f"sets {shown}")
        elif isinstance(target, ast.Attribute) and _root(target) == "data":
            yield Remark("data", f"sets {shown}")

    def _attribute(self, node: ast.Attribute) -> Iterator[Remark]:
        attribute, name = node.attr, self._name(node) or ""
        if attribute in INNER or attribute in HOOKS:
            yield Remark("introspection", f"reaches into {attribute}")
        elif attribute in FOLDERS and _root(node.value) != "self":
            yield Remark("data", f"uses the data's {attribute}")
        elif attribute[0] == "_" and self._is_measuring(node.value):
            yield Remark("evaluation", f"reaches into {ast.unparse(node)[:40]}")
        elif name in ("os.environ", "os.environb") and id(node) in self._read_by_key:
            yield Remark("environment", "uses the environment", refused=False)
        elif name in ("os.environ", "os.environb"):
            yield Remark("environment", "uses the environment as a whole")
        elif name.startswith("sys.modules"):
            yield Remark("introspection", "uses sys.modules")

    # --- calls ---

    def _call(self, node: ast.Call) -> Iterator[Remark]:
        name = self._name(node.func) or ""
        if kind := CALLS.get(name):
            yield Remark(kind, f"calls {name}()")
        elif name.startswith(PROCESS_CALLS):
            yield Remark("process", f"calls {name}()")
        elif name in ("setattr", "delattr", "getattr") and node.args:
            yield from self._by_name(name, node.args[0])
        elif name in ("print", "sys.stdout.write", "sys.stderr.write"):
            yield from self._print(node)
        elif name == "torch.manual_seed" and not _mentions_seed(node):
            yield Remark("seed", "sets a seed of its own", refused=False)
        if isinstance(node.func, ast.Attribute):
            yield from _method(node.func.attr)
        if _evaluates(node) and any(k.arg == "split" for k in node.keywords):
            yield Remark("evaluation", "evaluates another split")

    def _by_name(self, function: str, target: ast.expr) -> Iterator[Remark]:
        """getattr, setattr or delattr with a name as text: the audit cannot see which attribute is meant."""
        of_module, shown = self._is_of_module(self._name(target) or ""), ast.unparse(target)[:40]
        if function == "getattr" and of_module:
            yield Remark("introspection", f"looks up names of {shown} with getattr()")
        elif function != "getattr" and (of_module or _is_clock(target)):
            yield Remark("patch", f"patches {shown} with {function}()")

    def _print(self, node: ast.Call) -> Iterator[Remark]:
        """A line `val_bpb: ...` has to show a variable that holds the evaluator's number."""
        if not self._has_evaluator:
            return  # the number that the file computes itself is the metric
        for argument in node.args:
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            for i, part in enumerate(parts):
                if isinstance(part, ast.Constant) and "val_bpb" in str(part.value):
                    after = [p.value for p in parts[i + 1 : i + 2] if isinstance(p, ast.FormattedValue)]
                    shown = after or [a for a in node.args if not isinstance(a, ast.Constant)]
                    if not (shown and isinstance(shown[0], ast.Name) and shown[0].id in self._scores):
                        yield Remark("summary", "prints val_bpb by hand")

    # --- names ---

    def _name(self, node: ast.expr) -> str | None:
        """The full name, such as `torch.nn.functional.relu` for `F.relu`; None for anything but a name."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (base := self._name(node.value)):
            return f"{base}.{node.attr}"
        return None

    def _is_of_module(self, name: str) -> bool:
        """The full name begins with a module that the file imports, or imports from."""
        return name.split(".")[0] in self._modules

    def _is_measuring(self, node: ast.expr) -> bool:
        """It belongs to data, clock or evaluation."""
        name = self._name(node) or ""
        return _is_clock(node) or _root(node) == "data" or name.split(".")[0] == "prepare"

    def _is_from_prepare(self, name: str) -> bool:
        return self._names.get(name, "").startswith("prepare.")


def _imported(tree: ast.Module) -> dict[str, str]:
    """The names that imports bind, and the full names that they stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = "prepare" if _is_protected(node.module) else node.module
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
    return names


def _is_protected(module: str | None) -> bool:
    return module is not None and module.split(".")[-1] in PROTECTED


def _read_by_key(tree: ast.Module) -> set[int]:
    """The `id` of each expression of which one literal key is read: `x["KEY"]`, `x.get("KEY", ...)`."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=value, slice=ast.Constant(value=str())):
                found.add(id(value))
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(value=str()), *_]):
                found.add(id(value))
    return found


def _scores(tree: ast.Module) -> set[str]:
    """The variables that hold the evaluator's number, wherever they get a value."""
    scores: set[str] = set()
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            measured = node.value is not None and _evaluates(node.value)
            honest = measured and not isinstance(node, ast.AugAssign)
            (scores if honest else other).update(t.id for t in targets if isinstance(t, ast.Name))
    return scores - other


def _targets(node: Assignment) -> Iterator[ast.expr]:
    """What a statement assigns to or deletes, one by one: `a` and `b.c` in `a, b.c = 1, 2`."""
    waiting = list(node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target])
    while waiting:
        target = waiting.pop(0)
        if isinstance(target, ast.Tuple | ast.List):
            waiting = [*target.elts, *waiting]
        else:
            yield target


def _method(name: str) -> Iterator[Remark]:
    """What a call of a method of this name does, whatever object it belongs to."""
    if name in ("write_text", "write_bytes", "read_text", "read_bytes", "tofile"):
        yield Remark("files", f"calls .{name}()")


def _root(node: ast.expr) -> str:
    """The variable that an expression begins with: `a` of `a.b[c].d`; empty when it begins otherwise."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_clock(node: ast.expr) -> bool:
    return "clock" in _root(node).lower()


def _evaluates(node: ast.AST) -> bool:
    """It is a call of `evaluate`, or of something whose name begins so."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return name.startswith("evaluate")


def _mentions_seed(node: ast.AST) -> bool:
    """A variable whose name holds `seed` is part of it."""
    return any("seed" in n.id.lower() for n in ast.walk(node) if isinstance(n, ast.Name))
