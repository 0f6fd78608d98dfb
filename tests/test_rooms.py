"""The walls between the rooms: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "nanogpt": {"loop", "tui", "textual", "openai", "anthropic", "dulwich"},
    "loop": {"textual", "textual_serve", "torch", "nanogpt"},
    "tui": {"torch", "dulwich", "openai", "anthropic", "nanogpt"},
}
DOORS = {"loop.client", "loop.events", "loop.state"}
"""All the TUI may know of the engine."""


def imports(path: Path) -> set[str]:
    """Full names of the modules a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_what_it_must_not(room: str) -> None:
    assert files(room)
    for path in files(room):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & FORBIDDEN[room], path


def test_only_the_command_line_knows_the_cockpit() -> None:
    for path in files("loop"):
        if path.name != "cli.py":
            assert "tui" not in {name.split(".")[0] for name in imports(path)}, path


def test_the_cockpit_talks_to_the_engine_through_three_modules() -> None:
    for path in files("tui"):
        for name in imports(path):
            if name.startswith("loop.") and not any((name + ".").startswith(door + ".") for door in DOORS):
                pytest.fail(f"{path} imports {name}")


@pytest.mark.parametrize("module", ["loop.cli", "loop.engine", "loop.launch"])
def test_starting_the_engine_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"torch", "textual", "openai", "anthropic", "polars", "sympy", "numpy", "acp"}
    assert not heavy & set(loaded.stdout.split())


def test_files_stay_readable() -> None:
    """No file over 400 lines, but for two whose point is to be one file."""
    reasons = {"train.py": 620, "events.py": 600}  # what agents edit; the list of all types on the wire
    for room in FORBIDDEN:
        for path in files(room):
            assert len(path.read_text().splitlines()) <= reasons.get(path.name, 400), path


def test_no_lock_file_names_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"uv.lock", "poetry.lock"} & set(tracked.stdout.split())
