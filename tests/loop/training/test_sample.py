"""A model continues a text: in a process of the candidate's own code, behind the fence, and never ours."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

import psutil
import pytest

from loop import config
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training import sample, supervisor
from loop.training.supervisor import Standby
from tests.conftest import git
from tests.loop.scripted import until

ECHO = """\
import os, sys
print("loading")
model = sys.argv[-2]
print("---")
print(open(model).read(), *sys.argv[1:-2], sys.argv[-1])
"""


class Bench:
    """A run with one saved model, and a sample.py of the test's own."""

    def __init__(self, root: Path, script: str = ECHO) -> None:
        (root / "sample.py").write_text(script)
        git(root, "add", ".")
        git(root, "commit", "-qm", "sample.py")
        self.repository = Repository.discover(root)
        self.commit = self.repository.head()
        self.paths = RunPaths(root, "t")
        self.paths.create()
        self.training = TrainingFolder(self.paths.training(1, 1))
        self.training.reset()
        self.training.model.write_text("a model")

    async def sample(self, *words: str, **flags: object) -> str:
        settings = config.load(self.repository, self.commit, flags, os.environ)
        words = (*words, str(self.training.model), "a text")
        return await sample.sample(
            settings, self.paths, self.repository, self.commit, self.training, list(words)
        )


async def test_the_continuation_is_what_comes_after_the_mark(repository: Path) -> None:
    bench = Bench(repository)
    assert await bench.sample("--tokens", "5") == "a model --tokens 5 a text"
    assert await bench.sample() == "a model a text"
    assert not bench.paths.scratch("sample").exists()


async def test_control_characters_of_a_model_do_not_reach_the_terminal(repository: Path) -> None:
    script = 'print("---")\nprint("red: \\x1b[31m and a bell: \\x07.")\n'
    assert await Bench(repository, script).sample() == "red:  and a bell: ."


async def test_the_code_of_the_candidate_runs_and_not_what_lies_in_the_checkout(repository: Path) -> None:
    bench = Bench(repository)
    (repository / "sample.py").write_text("raise SystemExit('the checkout')")
    assert await bench.sample() == "a model a text"


async def test_the_process_reads_the_model_and_writes_nothing_outside(
    repository: Path, tmp_path: Path
) -> None:
    target = tmp_path / "outside"
    script = f"""\
import os, pathlib, sys
found = []
for path in ({str(target)!r}, sys.argv[-2], {str(repository / "train.py")!r}):
    try:
        pathlib.Path(path).write_text("changed")
    except OSError as error:
        found.append(type(error).__name__)
print("---")
print(*found)
"""
    bench = Bench(repository, script)
    assert await bench.sample(sandbox="require") == "PermissionError PermissionError PermissionError"
    assert not target.exists()
    assert bench.training.model.read_text() == "a model"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise ValueError('no such layer')", "ValueError: no such layer"),
        ("print('loading')", "loading"),
        ("", "it printed nothing"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
async def test_a_model_that_gives_nothing_is_one_sentence_with_the_reason(
    repository: Path, script: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"^the model gave no continuation: {reason}$"):
        await Bench(repository, script).sample()


async def test_a_commit_without_the_script_is_one_sentence(repository: Path) -> None:
    bench = Bench(repository)
    git(repository, "rm", "-q", "sample.py")
    git(repository, "commit", "-qm", "gone")
    bench.commit = bench.repository.head()
    with pytest.raises(UsageError, match=r"commit .{7} has no sample\.py, which would load the model"):
        await bench.sample()


async def test_a_command_that_does_not_name_the_file_is_one_sentence(repository: Path) -> None:
    with pytest.raises(UsageError, match=r"`train_command` does not name train\.py"):
        await Bench(repository).sample(train_command=["make", "train"])


async def test_two_samples_of_a_run_do_not_share_a_folder(repository: Path) -> None:
    bench = Bench(repository)
    await bench.sample()
    standby = Standby(bench.paths.folder / "sample/lock")
    try:
        fcntl.flock(standby._held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another sample of this run is under way"):
            await bench.sample()
    finally:
        standby.dismiss()
    assert await bench.sample() == "a model a text"


async def test_a_sample_that_is_given_up_leaves_no_process(repository: Path) -> None:
    bench = Bench(repository, "import time\nprint('here', flush=True)\ntime.sleep(600)\n")
    files = TrainingFolder(bench.paths.folder / "sample/process")
    sampling = asyncio.create_task(bench.sample())
    await until(lambda: "here" in files.end_of_log())
    found = supervisor.find(files)
    assert found is not None
    tree = [psutil.Process(found.pid), *psutil.Process(found.pid).children(recursive=True)]
    assert len(tree) == 2
    sampling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sampling
    assert not any(process.is_running() and process.status() != "zombie" for process in tree)
