"""The rooms and their doors (docs/architecture.md): who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "nanogpt": {"loop", "tui", "textual", "openai", "anthropic", "dulwich"},
    "loop": {"textual", "textual_serve", "torch", "nanogpt"},
    "tui": {"torch", "dulwich", "openai", "anthropic", "nanogpt"},
}
DOORS = {"loop.client", "loop.events", "loop.state"}
"""All that the cockpit may know of the engine."""

FLOORS = (
    ("loop.training.programs", "loop.training.ray.worker", "loop.setting"),
    ("loop.errors", "loop.text", "loop.merge", "loop.events", "loop.cluster_settings"),
    ("loop.processes", "loop.memory", "loop.live", "loop.experiment", "loop.paths"),
    ("loop.sharing",),
    ("loop.state",),
    ("loop.judging",),
    ("loop.records",),
    ("loop.config", "loop.client", "loop.store", "loop.agenda"),
    ("loop.agents", "loop.training", "loop.stranger", "loop.budget"),
    ("loop.training.remote",),
    ("loop.training.ray", "loop.training.slurm"),
    ("loop.proposing", "loop.tracking"),
    ("loop.engine",),
    ("loop.service",),
    ("loop.cli",),
)
"""The rooms of `loop`, from the ground up. A module imports from its own room and from floors below."""

PURE = (
    "loop/judging",
    "loop/agenda.py",
    "loop/state.py",
    "loop/live.py",
    "loop/experiment.py",
    "loop/merge.py",
)
IMPURE = {
    "asyncio", "os", "sys", "io", "pathlib", "time", "random", "socket", "subprocess", "shutil", "tempfile",
    "threading", "signal", "psutil", "dulwich", "polars",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """Full names of what a file imports, anywhere in it, type checking included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    """`loop.judging.verdict` for its file; a package is named like its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows(room: str) -> dict[str, set[str]]:
    """Each module of a package, and the modules of the same package that it imports."""
    modules = {name_of(path): path for path in files(room)}
    return {
        name: {other for other in imported(path) if other in modules and other not in (name, room)}
        for name, path in modules.items()
    }


def room_of(module: str) -> str:
    rooms = [room for floor in FLOORS for room in floor]
    found = [room for room in rooms if f"{module}.".startswith(f"{room}.")]
    return max(found, key=len, default="")


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_what_it_must_not(room: str) -> None:
    assert files(room)
    for path in files(room):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & FORBIDDEN[room], path


def test_arrows_only_go_down() -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows("loop").items()
        for other in others
        if room_of(module) != room_of(other) and floor[room_of(module)] <= floor[room_of(other)]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ["loop", "tui", "nanogpt"])
def test_no_modules_import_each_other_in_a_circle(room: str) -> None:
    graph = arrows(room)
    for package in [name for name in graph if any(other.startswith(f"{name}.") for other in graph)]:
        graph[package] = set()  # a package's own file is empty: who names it means one of its modules
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_kinds_of_agents_know_nothing_of_each_other() -> None:
    """What they share lies beside them. Only choose.py, which imports an agent once chosen, knows all."""

    def kind(module: str) -> str:
        parts = module.split(".")
        return parts[2] if module.startswith("loop.agents.") and len(parts) > 3 else ""

    for module, others in arrows("loop").items():
        if module.startswith("loop.agents.") and module != "loop.agents.choose":
            assert {kind(other) for other in others} <= {"", kind(module)}, module


def test_nothing_but_the_small_set_lies_at_the_top_of_the_engine() -> None:
    top = {path.stem for path in (ROOT / "loop").glob("*.py")} - {"__init__"}
    rooms = {room.removeprefix("loop.") for floor in FLOORS for room in floor}
    assert top <= rooms
    assert {path.name for path in (ROOT / "loop").iterdir() if (path / "__init__.py").exists()} <= rooms


@pytest.mark.parametrize("where", PURE)
def test_what_decides_is_pure(where: str) -> None:
    path = ROOT / where
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        assert not {name.split(".")[0] for name in imported(file)} & IMPURE, file
        calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        assert not any(isinstance(call, ast.Name) and call.id in ("open", "print") for call in calls), file


def test_programs_around_a_trainer_import_the_standard_library_alone() -> None:
    """And each other. They are what is shipped to another machine."""
    room = [*files("loop/training/programs"), ROOT / "loop/training/ray/worker.py"]
    for path in room:
        names = {name for name in imported(path) if not f"{name}.".startswith("loop.training.programs.")}
        beside = {other.stem for other in room}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names | beside, path


def test_only_one_program_speaks_with_ray() -> None:
    found = {name_of(path) for path in files("loop") if "ray" in {n.split(".")[0] for n in imported(path)}}
    assert found == {"loop.training.ray.helper"}


def test_one_module_chooses_an_executor() -> None:
    backends = {"loop.training.local", "loop.training.ray.executor", "loop.training.slurm.executor"}
    found = {name for name, others in arrows("loop").items() if others & backends}
    # Another machine trains with its own; Slurm's prepares the data here.
    assert found == {"loop.service.executors", "loop.training.remote.node", "loop.training.slurm.executor"}
    assert arrows("loop")["loop.engine"] & {name for name in arrows("loop") if ".training." in name} == {
        "loop.training.executor",
        "loop.training.trainings",
    }


def test_only_the_command_line_knows_the_cockpit() -> None:
    knowing = [path for path in files("loop") if "tui" in {name.split(".")[0] for name in imported(path)}]
    assert [name_of(path) for path in knowing] == ["loop.cli.cockpit"]


def test_the_cockpit_talks_to_the_engine_through_three_modules() -> None:
    for path in files("tui"):
        for name in imported(path):
            if name.startswith("loop.") and not any((name + ".").startswith(door + ".") for door in DOORS):
                pytest.fail(f"{path} imports {name}")


def test_no_screen_knows_the_app_and_a_panel_knows_the_state_and_its_own_widgets() -> None:
    graph = arrows("tui")
    assert {name for name, others in graph.items() if "tui.app" in others} == {"tui.start"}
    for name, others in graph.items():
        if name.startswith("tui.panels."):
            assert not {other for other in others if other.startswith(("tui.screens", "tui.link"))}, name


@pytest.mark.parametrize("module", ["loop.cli.__main__", "loop.engine", "loop.service.launch"])
def test_starting_the_engine_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy = {"ray", "torch", "textual", "openai", "anthropic", "polars", "sympy", "numpy", "acp"}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.parametrize("room", FORBIDDEN)
def test_every_module_has_a_test_file_of_its_name(room: str) -> None:
    """tests/loop/judging/test_verdict.py for loop/judging/verdict.py."""
    for path in files(room):
        if path.name != "__init__.py":
            name = "test_main.py" if path.name == "__main__.py" else f"test_{path.name}"
            assert (ROOT / "tests" / path.relative_to(ROOT).parent / name).is_file(), path


def test_files_stay_readable() -> None:
    """No file over 400 lines, but for two whose point is to be one file."""
    reasons = {"train.py": 700, "events.py": 690}  # what agents edit; the list of all types on the wire
    for room in FORBIDDEN:
        for path in files(room):
            assert len(path.read_text().splitlines()) <= reasons.get(path.name, 400), path


def test_no_lock_file_names_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"uv.lock", "poetry.lock"} & set(tracked.stdout.split())
