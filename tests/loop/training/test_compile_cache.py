"""Compile caches: filled by a dry run that sees random tokens alone, and private to a commit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from loop import config
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import compile_cache, supervisor
from loop.training.executor import Ended, Job
from loop.training.local import LocalExecutor
from tests.conftest import git
from tests.loop.judged import TRAINER, make_judged

COMPILES = """
import os
from pathlib import Path
kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
kept.mkdir(parents=True, exist_ok=True)
stub = os.environ.get("AUTORESEARCH_STUB")
cache = Path(os.environ["AUTORESEARCH_CACHE"])
try:
    text = (cache / ("stub/data.txt" if stub else "data.txt")).read_text()
    real = (cache / "data.txt").read_text() if stub else ""
except PermissionError:
    real = "closed"
print("found", *sorted(path.name for path in kept.iterdir()), "| text", text, "| real", real, flush=True)
(kept / f"NAME-{'dry' if stub else 'run'}").write_text(text)
"""


class Bench:
    """An executor that makes dry runs, and commits that say what they find."""

    def __init__(self, root: Path, **flags: object) -> None:
        self.root = make_judged(root)
        self.repository = Repository.discover(root)
        self.paths = RunPaths(root, "t")
        self.paths.create()
        settings = config.load(
            self.repository, self.repository.head(), flags, {"PATH": os.environ["PATH"]}, config.described()
        )
        self.executor = LocalExecutor(settings, self.paths, self.repository)

    def commit(self, name: str) -> str:
        (self.root / "train.py").write_text(COMPILES.replace("NAME-", f"{name}-") + TRAINER)
        git(self.root, "commit", "-qam", name)
        return self.repository.head()

    async def train(self, n: int, commit: str) -> str:
        """Train to the end; returns the line in which the trainer says what it found."""
        folder = TrainingFolder(self.paths.training(n, 1))
        job = Job(f"{self.paths.identity}-{n}-1-1", n, 1, commit, 1337, 0.2, 0, folder, "train.py")
        await self.executor.start(job)
        assert isinstance(await self.executor.follow(job), Ended)
        return next(line.strip() for line in folder.end_of_log().splitlines() if line.startswith("found"))

    def dry_log(self) -> str:
        return TrainingFolder(self.paths.folder / "dry-runs/slot-0").end_of_log()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    (tmp_path / "cache/stub").mkdir(parents=True)
    (tmp_path / "cache/data.txt").write_text("true text")
    (tmp_path / "cache/stub/data.txt").write_text("random")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = Bench(tmp_path / "repo", dry_run="on", sandbox="require")
    yield found
    await found.executor.close()
    found.repository.close()


async def test_a_dry_run_sees_random_tokens_alone_and_warms_the_training(bench: Bench) -> None:
    first = bench.commit("one")
    assert await bench.train(1, first) == "found one-dry | text true text | real"
    assert "found | text random | real closed" in bench.dry_log()
    assert await bench.train(2, first) == "found one-dry | text true text | real"  # what it wrote is gone


async def test_a_commit_begins_with_the_unchanged_codes_cache_and_with_no_other(bench: Bench) -> None:
    await bench.train(1, bench.commit("one"))
    assert await bench.train(2, bench.commit("two")) == "found one-dry two-dry | text true text | real"
    assert await bench.train(3, bench.commit("three")) == "found one-dry three-dry | text true text | real"


async def test_a_training_cannot_write_where_the_caches_are(bench: Bench) -> None:
    commit = bench.commit("one")
    target = bench.paths.compiled / commit
    code = f"open({str(target / 'x')!r}, 'w')"
    (bench.root / "train.py").write_text(
        f"try:\n    {code}\nexcept PermissionError:\n    print('found closed')\n" + TRAINER
    )
    await bench.train(1, commit)
    git(bench.root, "commit", "-qam", "writes")
    assert await bench.train(2, bench.repository.head()) == "found closed"
    assert not (target / "x").exists()


async def test_old_caches_are_deleted_but_the_first_stays(bench: Bench) -> None:
    commits = [bench.commit(f"c{i}") for i in range(compile_cache.NEWEST + 3)]
    for i, commit in enumerate(commits):
        await bench.train(i + 1, commit)
    kept = {path.name for path in bench.paths.compiled.iterdir() if path.is_dir()}
    assert kept == {commits[0], *commits[-compile_cache.NEWEST - 1 :]}


async def test_a_dry_run_that_fails_leaves_an_empty_cache_and_is_not_made_again(bench: Bench) -> None:
    (bench.root / "train.py").write_text(
        "import os, sys\nif os.environ.get('AUTORESEARCH_STUB'):\n    print('dry')\n    sys.exit(3)\n"
        "print('found', 'it trains')\n" + TRAINER
    )
    git(bench.root, "commit", "-qam", "fails")
    commit = bench.repository.head()
    assert await bench.train(1, commit) == "found it trains"
    assert (bench.paths.compiled / commit).is_dir()
    assert not compile_cache.needs_dry_run(bench.executor._settings, bench.paths, commit)


async def test_a_training_that_is_given_up_meanwhile_ends_its_dry_run(bench: Bench) -> None:
    (bench.root / "train.py").write_text("import time\nprint('found', flush=True)\ntime.sleep(600)\n")
    git(bench.root, "commit", "-qam", "sleeps")
    training = asyncio.create_task(bench.train(1, bench.repository.head()))
    async with asyncio.timeout(20):
        while "found" not in bench.dry_log():  # noqa: ASYNC110 - another process writes the file
            await asyncio.sleep(0.02)
    training.cancel()
    await asyncio.gather(training, return_exceptions=True)
    assert supervisor.find(TrainingFolder(bench.paths.folder / "dry-runs/slot-0")) is None


def test_only_where_a_judge_measures_and_a_gpu_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths(tmp_path, "t")
    judged = config.Settings(judge_command=["j"], answers_command=["a"], dry_run="auto")
    monkeypatch.setattr(compile_cache, "DRIVER", tmp_path / "none")
    assert not compile_cache.needs_dry_run(judged, paths, "c")
    monkeypatch.setattr(compile_cache, "DRIVER", tmp_path)
    assert compile_cache.needs_dry_run(judged, paths, "c")
    assert not compile_cache.needs_dry_run(config.Settings(dry_run="on"), paths, "c")
    off = config.Settings(judge_command=["j"], answers_command=["a"], dry_run="off")
    assert not compile_cache.needs_dry_run(off, paths, "c")


@pytest.mark.parametrize("first", ["", "../secret", "a" * 41])
def test_only_the_cache_of_a_commit_is_given(tmp_path: Path, first: str) -> None:
    """A candidate that trained while the run had no judge could name any folder as the first commit's."""
    paths = RunPaths(tmp_path, "t")
    (paths.folder / "secret").mkdir(parents=True)
    (paths.folder / "secret/key").touch()
    (paths.compiled / "inductor").mkdir(parents=True)
    (paths.compiled / "inductor/poison").touch()
    (paths.compiled / compile_cache.FIRST).write_text(first)
    compile_cache.give(paths, "c", tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("length", [40, 64])
def test_the_first_commits_cache_is_found_in_repositories_of_either_hash(tmp_path: Path, length: int) -> None:
    paths, first = RunPaths(tmp_path, "t"), "a" * length
    (tmp_path / "scratch/compiled").mkdir(parents=True)
    (tmp_path / "scratch/compiled/kernel").touch()
    compile_cache.take(paths, first, tmp_path / "scratch")
    compile_cache.give(paths, "b" * length, tmp_path / "other")
    assert [path.name for path in (tmp_path / "other/compiled").iterdir()] == ["kernel"]


@pytest.mark.parametrize(
    "left",
    [
        lambda at, other: at.symlink_to(other),
        lambda at, _: os.mkfifo(at),
        lambda at, _: (at / "inner").mkdir(parents=True),
    ],
    ids=["link", "pipe", "folder"],
)
def test_what_a_candidate_left_instead_of_the_first_commits_name_is_replaced(
    tmp_path: Path, left: Callable[[Path, Path], object]
) -> None:
    """It could while the run had no judge. A link was followed, and somebody else's file written."""
    paths, other = RunPaths(tmp_path, "t"), tmp_path / "other"
    paths.compiled.mkdir(parents=True)
    other.write_text("precious")
    left(paths.compiled / compile_cache.FIRST, other)
    compile_cache.take(paths, "a" * 40, tmp_path / "scratch")
    assert other.read_text() == "precious"
    assert (paths.compiled / compile_cache.FIRST).read_text() == "a" * 40


SHAPES = """
import os
kept = os.environ["TORCHINDUCTOR_CACHE_DIR"]
os.makedirs(kept, exist_ok=True)
open(kept + "/good", "w").write("good")
SHAPE
print("found", "it trains")
"""


@pytest.mark.parametrize(
    "shape",
    [
        "os.mkfifo(kept + '/pipe')",
        "os.symlink('/dev/zero', kept + '/link')",
        "open(kept + '/big', 'wb').truncate(40 * 2**30)",
        "for _ in range(150): os.mkdir('d'); os.chdir('d')",
        "os.makedirs(kept + '/closed', exist_ok=True); os.chmod(kept + '/closed', 0)",
    ],
)
async def test_whatever_a_dry_run_leaves_in_its_cache_the_training_goes_on(bench: Bench, shape: str) -> None:
    there = f"os.chdir(kept)\nhome = os.getcwd()\n{shape}\nos.chdir(home)"
    (bench.root / "train.py").write_text(
        SHAPES.replace("SHAPE", there) + TRAINER.replace("open(os", "open(os")
    )
    git(bench.root, "commit", "-qam", "shapes")
    commit = bench.repository.head()
    assert await bench.train(1, commit) == "found it trains"
    kept = sorted(path.name for path in (bench.paths.compiled / commit).rglob("*") if path.is_file())
    assert kept in ([], ["good"])
