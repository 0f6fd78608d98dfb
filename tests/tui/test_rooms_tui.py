"""The walls inside the cockpit, and between it and the engine."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOORS = {"loop.client", "loop.events", "loop.state"}
"""All modules of `loop` that the cockpit may know."""
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "tui").rglob("*.py")
}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it: also within functions and under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in names if _is_module(name)}
            found |= modules if len(modules) == len(names) else modules | {node.module}
    return found


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_no_module_of_the_cockpit_imports_in_a_circle() -> None:
    graph = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("tui.link") < order.index("tui.screens.main") < order.index("tui.app")


def test_only_the_start_knows_the_app() -> None:
    assert {name for name, path in MODULES.items() if "tui.app" in imports(path)} == {"tui.start"}


def test_a_panel_knows_neither_screens_nor_the_link() -> None:
    for name, path in MODULES.items():
        if name.startswith("tui.panels."):
            known = {module for module in imports(path) if module.startswith("tui.")}
            assert not {m for m in known if m.startswith("tui.screens") or m == "tui.link"}, name


def test_the_cockpit_knows_the_engine_through_three_modules() -> None:
    for name, path in MODULES.items():
        assert {module for module in imports(path) if module.partition(".")[0] == "loop"} <= DOORS, name


def test_every_module_has_a_test_file_of_its_name() -> None:
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            *folders, module = name.split(".")
            assert (ROOT.joinpath("tests", *folders) / f"test_{module}.py").is_file(), name
