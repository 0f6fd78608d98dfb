"""What a change does that training does not need. Pure.

The audit reads the code of the editable file; it does not keep the code from doing anything. What it finds is
shown beside the diff. What no honest change needs is refused, before a second of training is spent on it.
docs/verdicts.md says what gets past the audit, and what stops that instead.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter

from loop.judging.audit_reader import Finding as Finding
from loop.judging.audit_reader import Reader


def audit(before: str, after: str) -> list[Finding]:
    """What `after` does that `before` did not do, in the order of lines.

    A file that does not parse has no findings: it cannot run either. A file that Python can run, but that is
    nested too deeply for the audit, is refused: anything could hide in a sum of a thousand terms.
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
    known = Counter(key for key, _ in Reader(old).found())
    findings = []
    for key, finding in Reader(new).found():
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


def _only_the_seed(old: ast.Module, new: ast.Module) -> int | None:
    """The line of the first change, when two sources differ in values of seeds and in nothing else."""
    before, after = _SeedBlanker(), _SeedBlanker()
    if before.dump(old) != after.dump(new):
        return None
    pairs = zip(before.seeds, after.seeds, strict=True)
    return next((line for (_, value), (line, other) in pairs if value != other), None)


class _SeedBlanker(ast.NodeTransformer):
    """Puts 0 in the place of every value that a seed gets."""

    def __init__(self) -> None:
        self.seeds: list[tuple[int, str]] = []
        """The line and the expression of each value that was taken out."""

    def dump(self, tree: ast.Module) -> str:
        """The source without its seeds, as text that can be compared; `tree` itself is not changed."""
        return ast.dump(self.visit(copy.deepcopy(tree)))

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
