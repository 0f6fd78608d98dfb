"""One training process: real supervisors, and trainers that do what they should not."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop.records import training_folder
from loop.records.training_folder import Spec, TrainingFolder
from loop.training import fence, follow, supervisor
from loop.training.programs import supervise

DAEMON = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(64):
            try: os.close(fd)
            except OSError: pass
        time.sleep(600)
    os._exit(0)
"""
"""A trainer that ignores signals and leaves a daemon behind in a session of its own."""
FLOOD = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        break
time.sleep(600)
"""
FOREVER = "import time\ntime.sleep(600)\n"


class Bench:
    """Runs one script under a supervisor in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.files = TrainingFolder(folder / "run")
        self.lock = folder / "slot.lock"
        self.folder = folder

    def start(self, script: str, timeout_s: float = 30, **limits: float) -> supervisor.Supervisor:
        (self.folder / "train.py").write_text(script)
        environment = fence.environment(os.environ, {"AUTORESEARCH_RESULT": str(self.files.result)})
        spec = Spec(
            [sys.executable, "train.py"], str(self.folder), environment, str(self.files.log),
            str(self.files.exit), str(self.files.supervisor), timeout_s, commit="c",
            memory_gb=limits.get("memory_gb", 0.0), log_bytes=int(limits.get("log_bytes", 2**26)),
            processes=int(limits.get("processes", 2000)),
        )  # fmt: skip
        return supervisor.Standby(self.lock).start(self.files, spec)

    async def run(self, script: str, timeout_s: float = 30, **limits: float) -> training_folder.Exit:
        await supervisor.ended(self.start(script, timeout_s, **limits))
        found = self.files.read_exit("c")
        assert found is not None
        return found

    def left(self) -> list[psutil.Process]:
        """Processes of ours that are still there, however they hid: their environment gives them away."""
        mark, found = str(self.files.result), []
        for process in psutil.process_iter():
            try:
                if process.environ().get("AUTORESEARCH_RESULT") == mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    async def printed(self, word: str) -> None:
        async with asyncio.timeout(10):
            while word not in self.files.end_of_log():  # noqa: ASYNC110 - another process writes the file
                await asyncio.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_end_is_seen_at_once_with_its_exit_code(bench: Bench) -> None:
    found = await bench.run("print('hi')")
    assert (found.outcome, found.exit_code) == ("finished", 0)
    assert bench.files.end_of_log() == "hi\n"
    found = await bench.run("import sys; sys.exit(3)")
    assert (found.outcome, found.reason) == ("crashed", "exit code 3")
    found = await bench.run(FLOOD, processes=10)
    assert found.outcome == "crashed"
    assert found.reason == "started 21 processes, limit 10"
    assert bench.left() == []


async def test_a_trainer_is_found_again_and_only_by_its_own_start_time(bench: Bench) -> None:
    found = bench.start(FOREVER)
    assert await supervisor.locate(bench.files, bench.lock) == found
    with pytest.raises(BlockingIOError):
        bench.start(FOREVER)
    bench.files.supervisor.write_text(f'{{"pid": {found.pid}, "ticks": {found.ticks - 1}}}')
    assert supervisor._find(bench.files) is None
    await supervisor.stop(bench.files, found)
    assert await supervisor.locate(bench.files, bench.lock) is None


async def test_a_result_of_another_commit_is_not_taken(bench: Bench) -> None:
    await bench.run("pass")
    assert bench.files.read_exit("c") is not None
    assert bench.files.read_exit("another") is None


def test_only_what_training_needs_is_passed_on() -> None:
    given = {
        "PATH": "/bin", "ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "HF_TOKEN": "k", "AWS_SECRET": "k",
        "NVIDIA_API_KEY": "k", "CUDA_VISIBLE_DEVICES": "0", "LD_PRELOAD": "x", "SSH_AUTH_SOCK": "/s",
        "AUTORESEARCH_CACHE": "/c", "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    passed = fence.environment(given, {"AUTORESEARCH_SEED": "1"})
    assert set(passed) & set(given) == {
        "PATH", "CUDA_VISIBLE_DEVICES", "AUTORESEARCH_CACHE", "OMP_NUM_THREADS",
    }  # fmt: skip
    assert passed["AUTORESEARCH_SEED"] == "1"


def followed(files: TrainingFolder, text: bytes) -> list[ev.LiveEvent]:
    files.reset()
    files.log.write_bytes(text)
    seen: list[ev.LiveEvent] = []
    follow.Follower(files, 1, 1, seen.append).close()
    return seen


@pytest.mark.parametrize(
    "line",
    [
        b"step 1 (..%) | loss: 1",
        b"step 1 (.%) | loss: 1",
        b"step " + b"9" * 5000 + b" | loss: 1",
        b"step 1 | loss: " + b"9" * 5000,
        "step \u0661 (\u0662%) | loss: 1".encode(),
        b"step 1 | loss: nan | mfu: inf%",
        b"\xff\xfe\x00" * 1000,
        b"\x1b[2J\x1b]0;owned\x07\x1b[31mred",
        b"x" * 3_000_000,
        b"\n" * 3_000_000,
    ],
    ids=itertools.count(),
)
def test_no_output_stops_the_follower_or_reaches_a_screen_raw(bench: Bench, line: bytes) -> None:
    began = time.monotonic()
    for event in followed(bench.files, line + b"\nstep 2 (50%) | loss: 2.5\n"):
        ev.encode(event)
        if isinstance(event, ev.LogLines):
            assert "\x1b" not in event.text
            assert len(event.text) < 300_000
    assert training_folder.read_curve(bench.files.metrics)[-1] == ev.CurvePoint(0.5, 2.5)
    assert time.monotonic() - began < 2


def test_a_character_cut_in_two_by_reading_is_put_together(bench: Bench) -> None:
    bench.files.reset()
    seen: list[ev.LiveEvent] = []
    follower = follow.Follower(bench.files, 1, 1, seen.append)
    whole = "déjà vu\n".encode()
    for cut in (2, len(whole)):
        bench.files.log.write_bytes(whole[:cut])
        follower.read()
    follower.close()
    assert [e.text for e in seen if isinstance(e, ev.LogLines)] == ["déjà vu"]


def test_memory_is_what_is_resident() -> None:
    assert supervise.resident([os.getpid()]) >= psutil.Process().memory_info().rss * 0.9
