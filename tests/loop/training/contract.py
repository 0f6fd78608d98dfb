"""What every executor must do, as a test suite with real training processes.

A backend's test file inherits from `ExecutorContract` and says in `make` how to create its executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from loop import config
from loop import events as ev
from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training.executor import Ended, Executor, Job, Lost, PrepareFailed
from loop.training.supervisor import KEY
from tests.conftest import TRAINER

LONG_S = 600.0
"""A budget that no test waits for."""
FORKING = "import subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\n"
"""Starts a process of the trainer's own in another session."""
WHERE = "import os\nprint(os.getcwd(), os.environ['TMPDIR'], flush=True)\n"
"""Prints the trainer's slot and its folder for temporary files."""
PREPARE = """\
import sys
with open(COUNT, "a") as file:
    file.write("prepared\\n")
print("downloading")
"""

Make = Callable[[Settings, RunPaths, Repository, int], Executor]


class Bench:
    """A research repository, and executors for one run of it."""

    def __init__(self, root: Path, make: Make) -> None:
        self.root = root
        self.repository = Repository.discover(root)
        self.paths = RunPaths(root, "t")
        self.paths.create()
        self._make = make
        self._executors: list[Executor] = []

    def executor(self, seats: int = 1, **flags: object) -> Executor:
        """A new executor, as a new engine has one."""
        head = self.repository.head()
        settings = config.load(self.repository, head, flags, {"PATH": os.environ["PATH"]})
        made = self._make(settings, self.paths, self.repository, seats)
        self._executors.append(made)
        return made

    def dies(self, executor: Executor) -> None:
        """The engine of this executor is gone: nobody uses or closes it."""
        self._executors.remove(executor)

    def commit(self, path: str, content: str) -> str:
        """A commit that changes one file."""
        return self.repository.commit(self.repository.head(), path, content, "m")

    def job(
        self, n: int = 1, *, code: str = "", budget_s: float = 0.2, seat: int = 0, attempt: int = 1
    ) -> Job:
        """A training of the small trainer, with other code before it."""
        commit = self.commit("train.py", code + TRAINER) if code else self.repository.head()
        return Job(
            key=f"{self.paths.identity}-{n}-1-{attempt}",
            n=n,
            training=1,
            commit=commit,
            seed=1337,
            budget_s=budget_s,
            seat=seat,
            folder=TrainingFolder(self.paths.training(n, 1)),
            editable="train.py",
        )

    async def close(self) -> None:
        """End what a test has left, whether it passed or failed."""
        for executor in self._executors or [self.executor()]:
            await executor.sweep([])
            await executor.close()
        self.repository.close()


def processes(job: Job) -> list[psutil.Process]:
    """The living processes of a training, whoever their parent is."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(KEY) == job.key and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - conditions are about other processes and their files
            await asyncio.sleep(0.01)


async def trains(executor: Executor, job: Job) -> asyncio.Task[Ended | Lost]:
    """Start and follow a training; returns once it has printed its first step."""
    await executor.start(job)
    following = asyncio.create_task(executor.follow(job))
    await until(lambda: "step 00000" in job.folder.end_of_log())
    return following


async def interrupted(task: asyncio.Task[Ended | Lost]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def steps(job: Job) -> list[str]:
    """The steps in the log, as `step 00000`."""
    return [line[:10] for line in job.folder.end_of_log().splitlines() if line.startswith("step")]


class ExecutorContract:
    """Inherit from this in a class whose name begins with `Test`."""

    WHILE_S = 1.0
    """A budget that is not over before another executor has been made."""

    @staticmethod
    def make(settings: Settings, paths: RunPaths, repository: Repository, seats: int) -> Executor:
        """The executor that is tested."""
        raise NotImplementedError

    @staticmethod
    def children() -> set[psutil.Process]:
        """The processes that executors of this process have started, among others that stay as they are."""
        return set(psutil.Process().children(recursive=True))

    @pytest.fixture
    async def bench(self, repository: Path) -> AsyncIterator[Bench]:
        bench = Bench(repository, self.make)
        yield bench
        await bench.close()

    # --- one training ---

    async def test_a_training_fills_its_folder_and_ends(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job()
        await executor.start(job)
        assert job.folder.folder.is_dir()
        ended = await executor.follow(job)
        assert isinstance(ended, Ended)
        assert (ended.exit.outcome, ended.exit.exit_code, ended.changed) == ("finished", 0, [])
        assert job.folder.read_exit(job.commit) == ended.exit
        assert 0.2 <= ended.exit.ended - ended.exit.started < 20
        assert steps(job) == [f"step 0000{i}" for i in range(4)]
        assert "val_bpb: 6.000000" in job.folder.end_of_log()
        assert processes(job) == []

    async def test_a_crash_is_an_end_with_its_exit_code(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(code="raise SystemExit(3)\n")
        await executor.start(job)
        ended = await executor.follow(job)
        assert isinstance(ended, Ended)
        assert (ended.exit.outcome, ended.exit.reason) == ("crashed", "exit code 3")

    async def test_the_trainer_gets_its_seed_and_budget_and_no_key(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
        names = ("AUTORESEARCH_SEED", "AUTORESEARCH_BUDGET_S", "ANTHROPIC_API_KEY")
        executor = bench.executor()
        job = bench.job(code=f"import os\nprint([os.environ.get(name) for name in {names}])\n")
        await executor.start(job)
        await executor.follow(job)
        assert job.folder.end_of_log().splitlines()[0] == "['1337', '0.2', None]"

    async def test_a_protected_file_that_changed_is_named(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(code="open('notes.txt', 'w').write('yours')\n")
        await executor.start(job)
        ended = await executor.follow(job)
        assert isinstance(ended, Ended)
        assert ended.changed == ["notes.txt"]

    # --- starting and following more than once ---

    async def test_starting_twice_gives_the_same_training(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(budget_s=self.WHILE_S)
        await asyncio.gather(executor.start(job), executor.start(job))
        await until(lambda: processes(job))
        await executor.start(job)
        assert len(processes(job)) == 1
        assert isinstance(await executor.follow(job), Ended)
        assert steps(job) == [f"step 0000{i}" for i in range(4)]

    async def test_following_twice_gives_the_same_end(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job()
        await executor.start(job)
        first, second = await asyncio.gather(executor.follow(job), executor.follow(job))
        assert isinstance(first, Ended)
        assert first == second

    async def test_cancelling_follow_does_not_end_the_training(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(budget_s=self.WHILE_S)
        await interrupted(await trains(executor, job))
        assert len(processes(job)) == 1
        ended = await executor.follow(job)
        assert isinstance(ended, Ended)
        assert ended.exit.outcome == "finished"

    @pytest.mark.parametrize("after_s", [0, 0.002, 0.01, 0.03, 0.1])
    async def test_a_start_that_is_cancelled_can_be_repeated(self, bench: Bench, after_s: float) -> None:
        executor, job = bench.executor(), bench.job()
        starting = asyncio.create_task(executor.start(job))
        await asyncio.wait({starting}, timeout=after_s)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await executor.start(job)
        ended = await executor.follow(job)
        assert isinstance(ended, Ended)
        assert (ended.exit.outcome, ended.changed) == ("finished", [])

    # --- after the engine's death ---

    async def test_a_new_executor_takes_a_training_over(self, bench: Bench) -> None:
        first, job = bench.executor(), bench.job(budget_s=self.WHILE_S)
        await interrupted(await trains(first, job))
        [before] = processes(job)
        bench.dies(first)
        del first
        second = bench.executor()
        await second.start(job)
        assert processes(job) == [before]
        ended = await second.follow(job)
        assert isinstance(ended, Ended)
        assert ended.exit.outcome == "finished"
        assert steps(job) == [f"step 0000{i}" for i in range(4)]
        assert job.folder.end_of_log().endswith("peak_vram_mb: 512\n")

    async def test_a_training_that_ended_unseen_is_found_as_ended(self, bench: Bench) -> None:
        first, job = bench.executor(), bench.job()
        await interrupted(await trains(first, job))
        bench.dies(first)
        await until(lambda: not processes(job))
        again, second = time.time(), bench.executor()
        await second.start(job)
        ended = await second.follow(job)
        assert isinstance(ended, Ended)
        assert (ended.exit.outcome, ended.changed) == ("finished", [])
        assert ended.exit.started < again
        assert steps(job) == [f"step 0000{i}" for i in range(4)]

    async def test_a_training_that_was_found_but_not_started_can_be_stopped(self, bench: Bench) -> None:
        first, job = bench.executor(), bench.job(budget_s=LONG_S)
        await interrupted(await trains(first, job))
        bench.dies(first)
        await bench.executor().stop(job)
        await until(lambda: not processes(job))

    async def test_sweeping_ends_only_trainings_that_are_not_known(self, bench: Bench) -> None:
        first = bench.executor(seats=2)
        known, unknown = bench.job(1, budget_s=LONG_S), bench.job(2, code=FORKING, budget_s=LONG_S, seat=1)
        for job in (known, unknown):
            await interrupted(await trains(first, job))
        bench.dies(first)
        second = bench.executor(seats=2)
        assert await second.sweep([known.key]) > 0
        await until(lambda: not processes(unknown))
        assert len(processes(known)) == 1
        assert await second.sweep([known.key]) == 0

    # --- ends that are not the trainer's own ---

    async def test_stopping_ends_the_whole_process_tree(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(code=FORKING, budget_s=LONG_S)
        following = await trains(executor, job)
        assert len(processes(job)) == 2
        await executor.stop(job)
        ended = await asyncio.wait_for(following, 20)
        assert isinstance(ended, Lost) or ended.exit.outcome != "finished"
        assert processes(job) == []
        await executor.stop(job)  # there is nothing to stop any more

    async def test_a_stopped_training_starts_anew(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(budget_s=LONG_S)
        await interrupted(await trains(executor, job))
        await executor.stop(job)
        shorter = bench.job()
        await executor.start(shorter)
        ended = await executor.follow(shorter)
        assert isinstance(ended, Ended)
        assert ended.exit.outcome == "finished"

    async def test_a_killed_supervisor_loses_the_training_and_leaves_no_process(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(code=FORKING, budget_s=LONG_S)
        following = await trains(executor, job)
        trainer = next(p for p in processes(job) if "train.py" in " ".join(p.cmdline()))
        os.kill(trainer.ppid(), signal.SIGKILL)
        lost = await asyncio.wait_for(following, 30)
        assert isinstance(lost, Lost)
        assert lost.reason
        assert "\n" not in lost.reason
        await until(lambda: not processes(job))
        retried = bench.job(attempt=2)
        await executor.start(retried)
        assert isinstance(await executor.follow(retried), Ended)

    async def test_a_trainer_that_is_killed_from_outside_is_lost(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(budget_s=LONG_S)
        following = await trains(executor, job)
        processes(job)[0].kill()
        assert await following == Lost("killed by SIGKILL")

    # --- seats ---

    async def test_two_seats_train_at_once_and_share_no_folder(self, bench: Bench) -> None:
        executor = bench.executor(seats=2)
        jobs = [bench.job(n, code=WHERE, budget_s=self.WHILE_S, seat=n - 1) for n in (1, 2)]
        followed = [await trains(executor, job) for job in jobs]
        assert [len(processes(job)) for job in jobs] == [1, 1]
        assert [type(ended) for ended in await asyncio.gather(*followed)] == [Ended, Ended]
        (slot_1, scratch_1), (slot_2, scratch_2) = (job.folder.end_of_log().split()[:2] for job in jobs)
        assert slot_1 != slot_2
        assert scratch_1 != scratch_2

    @pytest.mark.parametrize("seats", [1, 3])
    async def test_places_have_as_many_seats_as_there_are_in_all(self, bench: Bench, seats: int) -> None:
        executor = bench.executor(seats=seats)
        places = executor.describe()
        assert executor.capacity() == sum(place.seats for place in places) == seats
        assert all(place.name and place.fence for place in places)

    async def test_a_trainer_is_below_one_of_the_named_processes(self, bench: Bench) -> None:
        executor, job = bench.executor(), bench.job(budget_s=self.WHILE_S)
        assert executor.processes() == []
        following = await trains(executor, job)
        [trainer] = processes(job)
        assert {parent.pid for parent in trainer.parents()} & set(executor.processes())
        await executor.start(job)  # it is found again, and forgotten like the first when it has ended
        await following
        assert executor.processes() == []

    # --- closing ---

    async def test_closing_leaves_no_process_and_no_temporary_folder(self, bench: Bench) -> None:
        before = self.children()
        executor, job = bench.executor(), bench.job(code=WHERE)
        await executor.start(job)
        await executor.follow(job)
        scratch = Path(job.folder.end_of_log().split()[1])
        await executor.close()
        assert self.children() <= before
        assert not scratch.exists()

    async def test_temporary_files_are_gone_with_their_training_although_the_engine_died(
        self, bench: Bench
    ) -> None:
        first, job = bench.executor(), bench.job(code=WHERE, budget_s=self.WHILE_S)
        await interrupted(await trains(first, job))
        scratch = Path(job.folder.end_of_log().split()[1])
        assert scratch.is_dir()
        bench.dies(first)
        await until(lambda: not scratch.exists() and not processes(job))

    async def test_closing_leaves_a_training_that_runs_as_it_is(self, bench: Bench) -> None:
        first, job = bench.executor(), bench.job(code=WHERE, budget_s=self.WHILE_S)
        await interrupted(await trains(first, job))
        await first.close()
        assert len(processes(job)) == 1
        assert Path(job.folder.end_of_log().split()[1]).is_dir()
        second = bench.executor()
        await second.start(job)
        ended = await second.follow(job)
        assert isinstance(ended, Ended)
        assert ended.exit.outcome == "finished"

    # --- preparing data ---

    async def test_data_is_prepared_once(self, bench: Bench, tmp_path: Path) -> None:
        count = tmp_path / "count"
        commit = bench.commit("notes.txt", f"COUNT = {str(count)!r}\n{PREPARE}")
        executor = bench.executor(prepare_command=["{python}", "notes.txt"])
        shown: list[ev.LiveEvent] = []
        await asyncio.gather(*(executor.prepare(commit, shown.append) for _ in range(3)))
        await executor.prepare(commit, shown.append)
        assert count.read_text() == "prepared\n"
        lines = [event.text for event in shown if isinstance(event, ev.Preparing)]
        assert lines == ["preparing data", "downloading", ""]

    async def test_data_that_cannot_be_prepared_is_said_in_one_sentence(self, bench: Bench) -> None:
        commit = bench.commit("notes.txt", "raise SystemExit('the disk is full')\n")
        executor = bench.executor(prepare_command=["{python}", "notes.txt"])
        sentence = r"^preparing the data failed \(exit code 1\): the disk is full$"
        for _ in range(2):
            with pytest.raises(PrepareFailed, match=sentence):
                await executor.prepare(commit, lambda event: None)

    async def test_preparing_does_not_touch_a_training_that_runs(self, bench: Bench) -> None:
        executor = bench.executor(seats=2, prepare_command=["{python}", "notes.txt"])
        job = bench.job(budget_s=self.WHILE_S)
        job = msgspec.structs.replace(job, commit=bench.commit("notes.txt", "print('one')\n"))
        following = await trains(executor, job)
        await executor.prepare(bench.commit("notes.txt", "print('other')\n"), lambda event: None)
        ended = await following
        assert isinstance(ended, Ended)
        assert ended.changed == []
