"""Filling the engine's folder of a training from another machine's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from loop.records.training_folder import Exit
from loop.training.executor import Ended, Job, Lost
from loop.training.remote import mirror
from loop.training.remote.mirror import Gone, News, Refused
from loop.training.remote.order import Report
from tests.loop.training.jobs import make_job

EXIT = Exit("finished", "", 0, started=1.0, ended=2.0)
ENDED = Ended(EXIT, ["notes.txt"], place="a:0")
SPEC = b'{"command":[],"cwd":"","env":{},"log":"","exit":"","supervisor":"","timeout_s":1.0,"commit":"c"}'


class There:
    """The other machine: its files, and how much of them it sends at once."""

    def __init__(self, log: bytes, report: Report | None = None, **files: bytes) -> None:
        self.log, self.report, self.at_once = log, report, 4
        self.files = {f"training/{name.replace('__', '/').replace('_', '.')}": c for name, c in files.items()}
        self.asked: list[int] = []

    async def news(self, offset: int) -> News:
        await asyncio.sleep(0)
        self.asked.append(offset)
        if self.report is None and offset >= len(self.log):
            raise Gone("its machine is gone")
        return News(self.log[offset : offset + self.at_once], self.report is not None)

    async def read(self, name: str, offset: int) -> bytes:
        content = msgspec.json.encode(self.report) if name == "report.json" else self.files.get(name, b"")
        return content[offset : offset + self.at_once]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = make_job(tmp_path)
    mirror.begin(made, "start", "a")
    return made


def finished(log: bytes = b"step 1\nstep 2\n") -> There:
    sizes = {"spec.json": len(SPEC), "out/model.pt": 5, "judge/claims.npy": 6}
    files = {"spec_json": SPEC, "out__model_pt": b"model", "judge__claims_npy": b"claims"}
    return There(log, Report(ended=ENDED, files=sizes), **files)


async def test_log_results_and_exit_arrive_whole(job: Job) -> None:
    assert mirror.end_of(job) is None
    assert await mirror.fill(job, finished()) == ENDED
    assert job.folder.log.read_bytes() == b"step 1\nstep 2\n"
    assert job.folder.model.read_bytes() == b"model"
    assert job.folder.claims.read_bytes() == b"claims"
    assert job.folder.read_exit("c") == EXIT
    assert mirror.end_of(job) == ENDED
    assert not list(job.folder.folder.rglob("*.tmp"))


async def test_the_log_goes_on_where_it_ends_here(job: Job) -> None:
    with pytest.raises(Gone):
        await mirror.fill(job, There(b"step 1\n"))
    there = finished()
    await mirror.fill(job, there)
    assert there.asked[0] == len(b"step 1\n")
    assert job.folder.log.read_bytes() == b"step 1\nstep 2\n"


async def test_filling_that_was_interrupted_can_be_repeated(job: Job) -> None:
    for turns in range(12):
        filling = asyncio.create_task(mirror.fill(job, finished()))
        for _ in range(turns):
            await asyncio.sleep(0)
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
    await mirror.fill(job, finished())
    assert job.folder.log.read_bytes() == b"step 1\nstep 2\n"
    assert mirror.end_of(job) == ENDED


async def test_only_results_of_a_size_to_believe_are_fetched(job: Job) -> None:
    sizes = {"../escape": 1, "judge/judged.json": 10**9, "exit.json": 2, "out/model.pt": 5}
    there = There(b"", Report(ended=ENDED, files=sizes), out__model_pt=b"model that has grown")
    await mirror.fill(job, there)
    assert not (job.folder.folder.parent / "escape").exists()
    assert not job.folder.judged.exists()
    assert job.folder.read_exit("c") is None  # there is no spec.json, so it is not taken for a result
    assert job.folder.model.read_bytes()[:5] == b"model"


async def test_an_order_that_was_lost_or_refused_leaves_no_exit(job: Job) -> None:
    assert await mirror.fill(job, There(b"a", Report(lost=Lost("killed")))) == Lost("killed")
    assert await mirror.fill(job, There(b"a", Report())) == Lost("it left no result")
    with pytest.raises(Refused, match="another version"):
        await mirror.fill(job, There(b"a", Report(refused="another version")))
    assert not job.folder.exit.exists()


def test_a_folder_is_emptied_for_another_start_and_for_no_other_reason(job: Job) -> None:
    job.folder.log.write_bytes(b"step 1\n")
    mirror.begin(job, "start", "a")
    assert job.folder.log.read_bytes() == b"step 1\n"
    again = msgspec.structs.replace(job, key="run-1-1-2")
    assert mirror.read_note(again) is None
    mirror.begin(job, "another start", "b")
    assert job.folder.log.read_bytes() == b""
    note = mirror.read_note(job)
    assert note is not None
    assert note.place == "b"
