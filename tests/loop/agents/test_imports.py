"""Which way the imports of the agents go: no circle, and no room that agents have no business with."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOMS = ("api", "acp", "search")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "loop/agents").rglob("*.py"))
}


def imported(nodes: list[ast.stmt] | list[ast.AST]) -> set[str]:
    """Modules and names that these statements import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def at_the_top(path: Path) -> set[str]:
    """What a module imports when it is imported itself."""
    return imported(ast.parse(path.read_text()).body)


def anywhere(path: Path) -> set[str]:
    """What a module imports, inside functions too."""
    return imported(list(ast.walk(ast.parse(path.read_text()))))


def test_no_module_imports_itself_by_way_of_another() -> None:
    arrows = {name: at_the_top(path) & MODULES.keys() - {name} for name, path in MODULES.items()}
    assert any(arrows.values())
    assert set(TopologicalSorter(arrows).static_order()) >= MODULES.keys()  # raises CycleError


def test_agents_know_neither_the_engine_nor_what_it_does_with_a_proposal() -> None:
    forbidden = ("training", "records", "proposing", "judging", "service", "cli", "engine", "agenda", "store")
    for name, path in MODULES.items():
        rooms = {imported.split(".")[1] for imported in anywhere(path) if imported.startswith("loop.")}
        assert not rooms & set(forbidden), name


def test_what_all_agents_share_knows_no_single_agent() -> None:
    """Only choose.py does, which imports an agent once it is chosen."""
    for name, path in MODULES.items():
        room = name.split(".")[2] if name.count(".") > 2 else ""
        found = anywhere(path) if name != "loop.agents.choose" else at_the_top(path)
        others = {other for other in ROOMS if other != room}
        assert not {f"loop.agents.{other}" for other in others} & {
            ".".join(imported.split(".")[:3]) for imported in found
        }, name
