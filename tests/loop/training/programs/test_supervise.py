"""The supervisor as a program, started as the engine starts it, and what it measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from loop.records.training_folder import Exit, Spec, TrainingFolder
from loop.training.programs import supervise, tree
from loop.training.supervisor import order
from tests.loop.training.programs.supervising import PROGRAM, has_groups, until


class Supervised:
    """One training in a temporary folder under a supervisor of its own."""

    def __init__(
        self, folder: Path, code: str, program: list[str] = PROGRAM, /, **limits: float | str | list[str]
    ) -> None:
        self.folder, self.files = folder, TrainingFolder(folder / "run")
        self.files.reset()
        command = str(limits.pop("command", sys.executable))
        spec = Spec(
            command=[command, "-c", code],
            cwd=str(folder),
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            log=str(self.files.log),
            exit=str(self.files.exit),
            supervisor=str(self.files.supervisor),
            timeout_s=float(str(limits.pop("timeout_s", 30))),
            commit="c",
            folders=[str(folder)],
        )
        self.spec = msgspec.structs.replace(spec, **limits)
        self.files.write_spec(self.spec)
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE)

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order(self.spec))
        self.process.stdin.close()

    def end(self) -> Exit:
        """Wait for its end."""
        assert self.process.wait(30) == 0
        found = msgspec.json.decode(self.files.exit.read_bytes(), type=Exit)
        assert 0 <= found.ended - found.started < 30
        return found


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(code: str, **limits: float | str | list[str]) -> Supervised:
        found = Supervised(tmp_path, code, **limits)
        found.start()
        return found

    return start


def test_it_writes_how_the_trainer_ended(start: Start) -> None:
    found = start("print('hi')")
    assert (found.end().outcome, found.files.end_of_log()) == ("finished", "hi\n")
    assert start("raise SystemExit(3)").end().reason == "exit code 3"
    killed = start("import os; os.abort()").end()
    assert (killed.outcome, killed.reason, killed.exit_code) == ("crashed", "killed by SIGABRT", -6)


def test_it_ends_without_a_training_when_the_engine_is_gone(tmp_path: Path) -> None:
    found = Supervised(tmp_path, "print('hi')")
    assert found.process.stdin is not None
    found.process.stdin.write(order(found.spec)[:-1])  # the line has no end
    found.process.stdin.close()
    assert found.process.wait(30) == 0
    assert not found.files.exit.exists()


def test_a_command_that_cannot_be_started_is_a_crash(start: Start) -> None:
    found = start("", command="/no/such/program").end()
    assert (found.outcome, found.exit_code) == ("crashed", 127)
    assert found.reason == "cannot start /no/such/program: No such file or directory"


def test_the_time_out_ends_the_trainer(start: Start) -> None:
    found = start("import time; time.sleep(600)", timeout_s=0.5).end()
    assert (found.outcome, found.reason) == ("timeout", "still running after 0.5 s")
    assert 0.5 <= found.ended - found.started < 10


def test_sigterm_ends_the_whole_tree(start: Start) -> None:
    child = "import subprocess, time; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)"
    found = start(f"{child}; time.sleep(600)")
    until(lambda: found.files.end_of_log().endswith("\n"))
    found.process.send_signal(signal.SIGTERM)
    assert (found.end().outcome, found.end().reason) == ("stopped", "stopped by the engine")
    assert not psutil.pid_exists(int(found.files.end_of_log()))


BURN = "import time; end = time.process_time() + 2.5\nwhile time.process_time() < end: pass\n"


@pytest.mark.parametrize("ignored", [False, True])
def test_processor_time_of_all_processes_counts(start: Start, ignored: bool) -> None:
    """Also that of a child whose end its parent ignores: the kernel forgets that one."""
    reaped = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)" if ignored else ""
    code = f"""
import contextlib, os, signal, subprocess, sys
{reaped}
child = subprocess.Popen([sys.executable, "-c", {BURN!r}])
with contextlib.suppress(ChildProcessError):
    os.waitpid(child.pid, 0)
"""
    found = start(code).end()
    assert found.outcome == "finished"
    assert found.cpu_seconds > (1.0 if ignored else 2.5)


@pytest.mark.skipif(not has_groups(), reason="this user may not make a control group here")
def test_processor_time_of_processes_that_nobody_has_seen_counts(start: Start) -> None:
    """They live shorter than it takes to look, and their parent ignores their end."""
    code = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(20):
    if not os.fork():
        while time.process_time() < 0.05:
            pass
        os._exit(0)
    try:
        os.wait()
    except ChildProcessError:
        pass
"""
    found = start(code).end()
    assert found.outcome == "finished"
    assert 0.95 < found.cpu_seconds < 3


def test_private_folders_are_gone_when_the_trainer_is_and_its_other_files_stay(
    start: Start, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    (private / "home").mkdir(parents=True)
    code = f"import os; open('kept', 'w'); os.chdir({str(private)!r}); open('x', 'w'); os.mkdir('closed', 0)"
    assert start(code, remove=[str(private), str(tmp_path / "missing")]).end().outcome == "finished"
    assert not private.exists()
    assert (tmp_path / "kept").exists()


def test_beside_the_model_nothing_stays(start: Start, tmp_path: Path) -> None:
    """Each experiment would fill the disk a little more."""
    out = tmp_path / "out"
    out.mkdir()
    leaves = "[open(n, 'w') for n in ('model.pt', 'step-100.pt', '\\n')]; os.makedirs('a/b')"
    code = f"import os; os.chdir({str(out)!r}); {leaves}; os.mkfifo('meta.json')"
    assert start(code, saved=[str(out / "model.pt"), str(out / "meta.json")]).end().outcome == "finished"
    assert [path.name for path in out.iterdir()] == ["model.pt"]


def test_what_the_trainer_leaves_behind_is_ended_and_counted(start: Start) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    leaves = "import os, time; os.fork() or (os.setsid(), time.sleep(600))"
    found = start(f"{stubborn}\n{leaves}").end()
    assert (found.outcome, found.reason) == ("finished", "ended 1 process that it left behind")


PATIENT = """
import runpy, sys
sys.path.append(sys.argv[1])
import tree
tree.GRACE_S = 600
runpy.run_path(sys.argv[1] + "/supervise.py", run_name="__main__")
"""
"""A supervisor that gives ten minutes to a trainer that it ends, instead of two seconds."""


def test_what_it_leaves_behind_has_less_time_than_what_is_ended(tmp_path: Path) -> None:
    """It could go on training, which nobody counts."""
    program = [sys.executable, "-I", "-S", "-c", PATIENT, str(Path(tree.__file__).parent)]
    stubborn = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    found = Supervised(tmp_path, f"{stubborn}\nos.fork() or time.sleep(600)", program)
    found.start()
    assert found.end().reason == "ended 1 process that it left behind"


def test_without_memory_the_kernel_ends_it_before_the_engine(start: Start) -> None:
    found = start("print(open('/proc/self/oom_score_adj').read())")
    found.end()
    assert found.files.end_of_log().split() == ["1000"]


@pytest.mark.parametrize(
    ("code", "limit", "reason"),
    [
        ("while True: print('x' * 10000)", {"log_bytes": 2**20}, "printed more than 1 MB"),
        (
            "[os.fork() or time.sleep(60) for i in range(5)]; time.sleep(60)",
            {"processes": 3},
            "started 6 processes",
        ),
        ("x = b'1' * 200_000_000; time.sleep(60)", {"memory_gb": 0.1}, "used 0.2 GB of memory, limit 0.1 GB"),
        ("open('big', 'wb').write(bytes(10**8)); time.sleep(60)", {"disk_gb": 0.05}, "wrote 0.1 GB of files"),
    ],
    ids=["output", "processes", "memory", "disk"],
)
def test_a_limit_ends_the_trainer(start: Start, code: str, limit: dict[str, float], reason: str) -> None:
    found = start(f"import os, time\n{code}", **limit)
    assert found.end().outcome == "crashed"
    assert found.end().reason.startswith(reason)
    assert found.files.log.stat().st_size <= 2**20


def test_it_says_who_it_is_as_soon_as_it_trains(start: Start) -> None:
    found = start("import time; time.sleep(0.5)")
    until(found.files.supervisor.exists)
    pid = found.process.pid
    assert json.loads(found.files.supervisor.read_text()) == {"pid": pid, "ticks": tree.ticks(pid)}
    found.end()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    supervise.write(tmp_path / "exit.json", {"a": 1}, durable=True)
    assert json.loads((tmp_path / "exit.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["exit.json"]
