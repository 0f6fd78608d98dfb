"""What a change to the editable file does besides research, found in its syntax tree. Pure.

An audit reads code, it does not contain it: what it finds is shown to the human beside the diff, and what
no honest change needs is refused before a second of training is spent. docs/verdicts.md says what gets past
it and what stops that instead.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

Kind = Literal[
    "evaluation", "summary", "patch", "data", "clock", "seed", "environment", "files", "network",
    "process", "introspection",
]  # fmt: skip

MODULES: dict[str, Kind] = {
    **dict.fromkeys(("socket", "ssl", "http", "urllib", "requests", "httpx", "ftplib", "smtplib"), "network"),
    **dict.fromkeys(("huggingface_hub", "asyncio", "websockets", "aiohttp"), "network"),
    **dict.fromkeys(("subprocess", "multiprocessing", "signal", "pty", "ctypes", "cffi"), "process"),
    **dict.fromkeys(("pickle", "shelve", "tempfile", "shutil", "glob", "mmap", "fcntl", "dbm"), "files"),
    **dict.fromkeys(("sqlite3", "pathlib", "io", "zipfile", "tarfile", "safetensors"), "files"),
    **dict.fromkeys(("gc", "inspect", "importlib", "builtins", "types", "runpy", "code"), "introspection"),
    **dict.fromkeys(("marshal", "dis", "unittest", "tracemalloc", "atexit", "weakref"), "introspection"),
}
"""Modules that training has no use for, by what they are used for."""

CALLS: dict[str, Kind] = {
    **dict.fromkeys(("open", "torch.load", "torch.save", "torch.from_file", "os.open"), "files"),
    **dict.fromkeys(("os.listdir", "os.scandir", "os.walk", "os.read", "os.write", "os.fdopen"), "files"),
    **dict.fromkeys(("torch.jit.load", "torch.jit.save", "numpy.load", "numpy.save"), "files"),
    **dict.fromkeys(("numpy.memmap", "numpy.fromfile", "numpy.savez", "numpy.loadtxt"), "files"),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "os.kill", "os.abort", "os._exit"), "process"),
    **dict.fromkeys(("exec", "eval", "compile", "__import__", "globals", "vars", "breakpoint"), "process"),
    **dict.fromkeys(("sys._getframe", "sys.settrace", "sys.setprofile"), "introspection"),
    **dict.fromkeys(("os.putenv", "os.unsetenv", "os.getenvb"), "environment"),
    **dict.fromkeys(("torch.hub.load", "torch.hub.load_state_dict_from_url"), "network"),
    **dict.fromkeys(("torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline"), "process"),
}
"""Functions that training has no use for, by their full names; `os.exec*` and `os.spawn*` besides."""

HOOKS = ("__torch_function__", "__torch_dispatch__", "TorchFunctionMode", "TorchDispatchMode")
"""Names with which code changes what torch itself computes."""
INNER = (
    "__globals__", "__closure__", "__code__", "__dict__", "__subclasses__", "__builtins__", "__mro__",
    "__loader__", "__spec__", "tb_frame", "f_back", "f_locals", "f_globals", "gi_frame", "cr_frame",
)  # fmt: skip
SWITCHES = ("torch.backends.", "torch._dynamo.config.", "torch._inductor.config.", "torch._functorch.config.")
"""Attributes of modules that are made to be set."""
FOLDERS = ("folder", "cache_folder")
"""Where prepared data lies: batches come from `Data`, nothing else of it is training's business."""
ALLOWED_VARIABLE = "AUTORESEARCH_SEED"
HELD_OUT = ("val", "tune", "hidden", "audit", "val.npy", "tune.npy", "hidden.npy", "audit.npy")
"""Names of data that no training may see."""


class Finding(Struct, frozen=True):
    """One thing a change does that someone should know."""

    kind: Kind
    line: int
    text: str
    refused: bool

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


def audit(before: str, after: str) -> list[Finding]:
    """What `after` does that `before` did not, in order of lines; empty when nothing is remarkable.

    A file that does not parse has no findings: it cannot run either. One that Python runs and this cannot
    look through is refused: anything could hide behind a sum of a thousand terms.
    """
    try:
        return _audit(before, after)
    except (RecursionError, MemoryError):
        return [Finding("introspection", 1, "nested too deeply to be looked through", refused=True)]


def _audit(before: str, after: str) -> list[Finding]:
    try:
        old, new = ast.parse(before), ast.parse(after)
    except (SyntaxError, ValueError):
        return []
    known = Counter(key for key, _ in _Reader(old).found())
    findings = []
    for key, finding in _Reader(new).found():
        if known[key]:
            known[key] -= 1
        else:
            findings.append(finding)
    if (line := _only_the_seed(old, new)) is not None:
        findings.append(Finding("seed", line, "nothing but the seed changes", refused=True))
    return sorted(findings, key=lambda finding: finding.line)


def refusal(findings: list[Finding]) -> str | None:
    """Why the change is not trained, as one sentence for the agent; None when it may be."""
    refused = [str(finding) for finding in findings if finding.refused]
    if not refused:
        return None
    return f"the change is refused, because it is more than training: {'; '.join(refused)}"


class _Reader:
    """Walks one source once. `found` yields a key that says what is done, wherever it stands, and a finding.

    Names are resolved through the file's imports: `F.cross_entropy` is `torch.nn.functional.cross_entropy`.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._names = _imported(tree)
        self._by_name = _looked_up_by_name(tree)
        self._scores = _scores(tree)

    def found(self) -> Iterator[tuple[str, Finding]]:
        for node in ast.walk(self._tree):
            for kind, text, refused in self._look(node):
                line = getattr(node, "lineno", 1)
                yield f"{kind} {text} {ast.dump(node)}", Finding(kind, line, text, refused)

    def _look(self, node: ast.AST) -> Iterator[tuple[Kind, str, bool]]:
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from self._import(node)
            case ast.Assign() | ast.AugAssign() | ast.AnnAssign() | ast.Delete() | ast.For():
                yield from self._store(node)
            case ast.Call():
                yield from self._call(node)
            case ast.FunctionDef() | ast.ClassDef() if node.name in HOOKS or self._is_fixed(node.name):
                yield "evaluation", f"redefines {node.name}", True
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in INNER or name in HOOKS:
                yield "introspection", f"reaches into {name}", True
            case ast.Attribute(attr=name, value=value) if name in FOLDERS and _root(value) != "self":
                yield "data", f"uses the data's {name}", True
            case ast.Attribute(attr=name, value=value) if name[0] == "_" and self._is_measuring(value):
                yield "evaluation", f"reaches into {ast.unparse(node)[:40]}", True
            case ast.Attribute() if self._name(node) in ("os.environ", "os.environb"):
                read = id(node) in self._by_name
                yield "environment", "uses the environment" + ("" if read else " as a whole"), not read
            case ast.Attribute() if (self._name(node) or "").startswith("sys.modules"):
                yield "introspection", "uses sys.modules", True
            case ast.Constant(value=str(text)) if (
                text.startswith("AUTORESEARCH_") and text != ALLOWED_VARIABLE
            ):
                yield "environment", f"names {text[:40]}", True
            case ast.Constant(value=str(text)) if text.startswith(("/proc", "/dev/", "/sys/")):
                yield "files", f"names {text[:40]}", True
            case ast.Subscript(slice=ast.Constant(value=str(text))) if text in HELD_OUT:
                yield "data", f"reads the split {text!r}", True

    # --- imports ---

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[Kind, str, bool]]:
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for module in modules:
            kind = MODULES.get(module.split(".")[0])
            if kind:
                yield kind, f"imports {module}", True
            elif module == "torch.overrides" or module.startswith("torch.utils._python_dispatch"):
                yield "patch", f"imports {module}", True
        for module in modules:
            if module.split(".")[-1] in ("evaluation", "clock"):
                yield "evaluation", f"imports {module} past prepare", True
        if isinstance(node, ast.ImportFrom) and _is_prepare(node.module):
            for alias in node.names:
                if alias.name.startswith("_") or alias.name in ("*", "identity", *FOLDERS):
                    yield "evaluation", f"imports {alias.name} from prepare", True

    # --- assignments ---

    def _store(
        self, node: ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete | ast.For
    ) -> Iterator[tuple[Kind, str, bool]]:
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in targets:
            for part in _parts(target):
                yield from self._store_one(part)

    def _store_one(self, target: ast.expr) -> Iterator[tuple[Kind, str, bool]]:
        shown = ast.unparse(target)[:60]
        if isinstance(target, ast.Name):
            if self._is_fixed(target.id) and target.id[0].islower():
                yield "evaluation", f"gives {target.id} another meaning", True
            return
        base: ast.expr = target
        while isinstance(base, ast.Subscript | ast.Starred):
            base = base.value
        name = self._name(base) or ""
        if name.startswith("os.environ"):
            yield "environment", f"sets {shown}", True
        elif name in self._names.values() or (name and name.split(".")[0] in _roots(self._names)):
            if not name.startswith(SWITCHES):
                yield "patch", f"patches {name}", True
        elif isinstance(base, ast.Attribute) and (_is_clock(base) or _root(base) == "data"):
            yield "clock" if _is_clock(base) else "data", f"sets {shown}", True

    # --- calls ---

    def _call(self, node: ast.Call) -> Iterator[tuple[Kind, str, bool]]:
        name = self._name(node.func) or ""
        kind = CALLS.get(name)
        if kind or name.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
            yield kind or "process", f"calls {name}()", True
        if name in ("setattr", "delattr") and node.args:
            target = self._name(node.args[0]) or ""
            if target.split(".")[0] in _roots(self._names) or _is_clock(node.args[0]):
                yield "patch", f"patches {ast.unparse(node.args[0])[:40]} with {name}()", True
        if (
            name == "getattr"
            and node.args
            and (self._name(node.args[0]) or "").split(".")[0] in _roots(self._names)
        ):
            yield "introspection", f"looks up names of {ast.unparse(node.args[0])[:40]} with getattr()", True
        if isinstance(node.func, ast.Attribute):
            yield from self._method(node, node.func)
        if name in ("print", "sys.stdout.write", "sys.stderr.write"):
            yield from self._print(node)
        if _evaluates(node) and any(k.arg == "split" for k in node.keywords):
            yield "evaluation", "evaluates another split", True
        if name == "torch.manual_seed" and not _mentions_seed(node):
            yield "seed", "sets a seed of its own", False

    def _method(self, node: ast.Call, function: ast.Attribute) -> Iterator[tuple[Kind, str, bool]]:
        if function.attr == "fixed":
            yield "data", "reads a held-out split", True
        elif function.attr in ("write_text", "write_bytes", "read_text", "read_bytes", "tofile"):
            yield "files", f"calls .{function.attr}()", True

    def _print(self, node: ast.Call) -> Iterator[tuple[Kind, str, bool]]:
        """A summary line whose number is not the evaluator's."""
        if not self._scores:
            return  # no evaluator outside the file: the trainer's own number is the metric
        for argument in node.args:
            parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
            for i, part in enumerate(parts):
                if not (isinstance(part, ast.Constant) and "val_bpb" in str(part.value)):
                    continue
                rest = [p.value for p in parts[i + 1 : i + 2] if isinstance(p, ast.FormattedValue)]
                rest = rest or [a for a in node.args if not isinstance(a, ast.Constant)]
                honest = rest and all(isinstance(v, ast.Name) and v.id in self._scores for v in rest[:1])
                if not honest:
                    yield "summary", "prints val_bpb by hand", True

    # --- names ---

    def _name(self, node: ast.expr) -> str | None:
        """`torch.nn.functional.relu` for `F.relu`; None for what is no plain dotted name."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (base := self._name(node.value)):
            return f"{base}.{node.attr}"
        return None

    def _is_measuring(self, node: ast.expr) -> bool:
        """It belongs to data, clock or evaluation."""
        name = self._name(node) or ""
        return _is_clock(node) or _root(node) == "data" or name.split(".")[0] == "prepare"

    def _is_fixed(self, name: str) -> bool:
        """It is imported from prepare.py."""
        return self._names.get(name, "").startswith("prepare.")


def _imported(tree: ast.Module) -> dict[str, str]:
    """Names that imports bind, and what they stand for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            module = "prepare" if _is_prepare(node.module) else node.module
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
    return names


def _is_prepare(module: str | None) -> bool:
    return module is not None and module.split(".")[-1] in ("prepare", "evaluation", "clock")


def _looked_up_by_name(tree: ast.Module) -> set[int]:
    """Expressions of which one literal key is read: `x["KEY"]`, `x.get("KEY", ...)`."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=value, slice=ast.Constant(value=str())):
                found.add(id(value))
            case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(value=str()), *_]):
                found.add(id(value))
    return found


def _root(node: ast.expr) -> str:
    """`a` of `a.b[c].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _roots(names: dict[str, str]) -> set[str]:
    return {name.split(".")[0] for name in names.values()}


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _parts(element)
    else:
        yield target


def _is_clock(node: ast.expr) -> bool:
    return "clock" in _root(node).lower()


def _evaluates(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return name.startswith("evaluate")


def _scores(tree: ast.Module) -> set[str]:
    """Names that hold the evaluator's number and nothing else."""
    scores: set[str] = set()
    other: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            honest = node.value is not None and _evaluates(node.value) and not isinstance(node, ast.AugAssign)
            (scores if honest else other).update(t.id for t in targets if isinstance(t, ast.Name))
    return scores - other


def _mentions_seed(node: ast.AST) -> bool:
    return any("seed" in n.id.lower() for n in ast.walk(node) if isinstance(n, ast.Name))


def _only_the_seed(old: ast.Module, new: ast.Module) -> int | None:
    """The line of the change, when two sources differ in their seeds alone."""
    seeds: list[list[tuple[int, str]]] = []
    dumps = []
    for tree in (old, new):
        blind = _Blind()
        dumps.append(ast.dump(blind.visit(copy.deepcopy(tree))))
        seeds.append(blind.seeds)
    if dumps[0] != dumps[1]:
        return None
    changed = [b for a, b in zip(*seeds, strict=True) if a[1] != b[1]]
    return changed[0][0] if changed else None


class _Blind(ast.NodeTransformer):
    """Takes the value out of every seed, and remembers it with its line."""

    def __init__(self) -> None:
        self.seeds: list[tuple[int, str]] = []

    def _take(self, node: ast.expr) -> ast.expr:
        self.seeds.append((node.lineno, ast.dump(node)))
        return ast.Constant(0)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if any(isinstance(t, ast.Name) and "seed" in t.id.lower() for t in node.targets):
            node.value = self._take(node.value)
            return node
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if "seed" in name and node.args:
            node.args[0] = self._take(node.args[0])
        for keyword in node.keywords:
            if keyword.arg and "seed" in keyword.arg:
                keyword.value = self._take(keyword.value)
        return self.generic_visit(node)
