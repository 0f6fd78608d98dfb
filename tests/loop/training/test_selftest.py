"""The machine is tested behind the fence before its first training, once for what it has and what trains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loop import config
from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training import gpu, selftest
from loop.training.executor import PrepareFailed
from loop.training.gpu import Facts
from loop.training.selftest import Check, Result
from tests.conftest import git

FACTS = Facts("2.13.0+cu130", "13.0", "580.65", "NVIDIA H100", 79.6)
WELL = """\
import os
print("ok       0.1 s  device: here", flush=True)
print("some noise: of a library")
print("warn    12.3 s  compiled code: no C compiler: install gcc", flush=True)
open(os.environ["TRITON_CACHE_DIR"] + "-made", "w").write("compiled")
"""


class Bench:
    """A run of a repository whose trainer has a self test."""

    def __init__(self, root: Path, script: str = WELL, **flags: object) -> None:
        if script:
            (root / "selftest.py").write_text(script)
        git(root, "add", ".")
        git(root, "commit", "--allow-empty", "-qm", "selftest")
        self.root, self.repository = root, Repository.discover(root)
        self.paths = RunPaths(root, "t")
        self.paths.create()
        self.flags = flags
        self.said: list[str] = []

    @property
    def settings(self) -> Settings:
        return config.load(self.repository, self.repository.head(), self.flags, os.environ)

    async def run(self) -> Result:
        commit, found = self.repository.head(), list[Check]()
        result = await selftest.run(self.settings, self.paths, self.repository, commit, FACTS, found.append)
        assert found == result.checks
        return result

    async def before_training(self, facts: Facts = FACTS) -> list[str]:
        """What is shown, other than that it goes on."""
        shown: list[ev.LiveEvent] = []
        await selftest.before_training(
            self.settings, self.paths, self.repository, self.repository.head(), facts, shown.append
        )
        return [event.text for event in shown if isinstance(event, ev.Notice)]


@pytest.fixture
def here(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a GPU's driver and an empty cache."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "driver").touch()
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "driver")
    return repository


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("ok      12.3 s  step: 8 of 8 rows: fine", Check("ok", 12.3, "step", "8 of 8 rows: fine")),
        ("fail     0.0 s  device: \x1b[1mnone", Check("fail", 0.0, "device", "none")),
        ("step 00001 (41.0%) | loss: 2.3", None),
        ("ok then", None),
    ],
)
def test_only_the_scripts_own_lines_are_checks(line: str, check: Check | None) -> None:
    assert selftest.parse(line) == check
    if check and "\x1b" not in line:
        assert str(check) == line


async def test_what_was_tried_is_told_and_kept(here: Path) -> None:
    found = await Bench(here).run()
    assert [(c.verdict, c.name) for c in found.checks] == [("ok", "device"), ("warn", "compiled code")]
    assert str(found) == "compiled code: no C compiler: install gcc"
    assert found.machine == "NVIDIA H100, 80 GB, driver 580.65, torch 2.13.0+cu130"
    assert selftest.last(os.environ) == found


async def test_a_script_that_breaks_off_fails_with_its_last_words(here: Path) -> None:
    found = await Bench(here, WELL + "raise ValueError('no luck')\n").run()
    assert found.of("fail")[0].text == "it broke off: exit code 1: ValueError: no luck"
    (here / "selftest.py").write_text("import os\nos.abort()\n")
    found = await Bench(here, "import os\nos.abort()\n").run()
    assert "SIGABRT" in str(found)


async def test_what_it_compiles_is_kept_for_the_commit_where_each_has_a_cache_of_its_own(here: Path) -> None:
    program = ["{python}", "notes.txt"]
    bench = Bench(here, judge_command=program, answers_command=program)
    await bench.run()
    kept = bench.paths.compiled / bench.repository.head()
    assert (kept / "triton-made").read_text() == "compiled"
    assert not bench.paths.scratch("selftest").exists()


async def test_a_trainer_without_a_test_hears_what_torch_says_behind_the_fence(here: Path) -> None:
    found = await Bench(here, script="").run()
    (check,) = found.checks
    assert (check.verdict, check.name) == ("ok", "device")
    assert "torch 2." in check.text
    assert "this trainer has no selftest.py" in check.text


async def test_what_no_python_starts_cannot_be_tested(here: Path) -> None:
    with pytest.raises(UsageError, match=r"started by \./train.sh, not by Python"):
        await Bench(here, script="", train_command=["./train.sh"]).run()


# --- before the first training ---


async def test_a_machine_is_tested_once_and_again_when_all_but_the_candidate_changes(
    here: Path,
) -> None:
    bench = Bench(here)
    assert await bench.before_training() == ["self test: compiled code: no C compiler: install gcc"]
    assert await bench.before_training() == []
    bench.repository.close()
    (here / "train.py").write_text("another = 1\n")
    assert await Bench(here).before_training() == []
    newer = Facts("2.13.0+cu130", "13.0", "590.10", "NVIDIA H100", 79.6)
    assert len(await Bench(here).before_training(newer)) == 1
    assert len(await Bench(here, WELL + "# newer\n").before_training()) == 1


async def test_a_device_that_does_not_work_stops_the_training_and_anything_else_does_not(here: Path) -> None:
    broken = 'print("fail     0.1 s  device: driver 580 is needed", flush=True)\n'
    with pytest.raises(PrepareFailed, match="driver 580 is needed"):
        await Bench(here, broken).before_training()
    step = WELL + 'print("fail     0.1 s  step: OutOfMemoryError", flush=True)\n'
    assert (await Bench(here, step).before_training())[0] == "self test: step: OutOfMemoryError"


async def test_nothing_is_tested_where_nothing_is_compiled_before(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(here, dry_run="off")
    head = bench.repository.head()
    assert not selftest.is_due(bench.settings, bench.repository, head)
    bench.flags = {}
    assert selftest.is_due(bench.settings, bench.repository, head)
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    assert not selftest.is_due(bench.settings, bench.repository, head)
    bench.flags = {"dry_run": "on"}
    assert selftest.is_due(bench.settings, bench.repository, head)
