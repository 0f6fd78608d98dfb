"""Hostile training code, one attack a test: each fails or is contained, is said in one line, and the loop
goes on. What needs a kernel that this machine does not have is skipped by what was detected here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from loop import events as ev
from loop.agents.base import Proposal, ResearchContext
from loop.records import results, training_folder
from loop.service.server import Server
from loop.state import Experiment
from loop.training import fence, supervisor
from loop.training.fence import Support
from loop.training.programs import sandbox
from tests.conftest import TRAINER, git, make_repository
from tests.loop.scripted import Bench, ScriptedAgent, until

SUPPORT = fence.detect()
CONFIG = "budget_s = 0.1\nmemory_gb = 0.4\ndisk_gb = 0.1\ndata = ['~/data']\n"

ATTACKS = {
    "reads a key": "open(HOME + '/.ssh/id_rsa').read()",
    "reads through a link": "os.symlink(HOME + '/.ssh', 'there'); open('there/id_rsa').read()",
    "reads the engine's environment": "open(f'/proc/{ENGINE}/environ', 'rb').read()",
    "reads the supervisor's environment": "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "reads the engine's memory": "open(f'/proc/{ENGINE}/mem', 'rb').read()",
    "writes outside": "open(ROOT + '/owned', 'w')",
    "empties results.tsv": "os.truncate(ROOT + '/results.tsv', 0)",
    "forges its result": "open(RUN + '/exit.json', 'w')",
    "moves a file in": "os.rename(ROOT + '/notes.txt', 'mine')",
    "changes the data": "open(HOME + '/data/tokens.bin', 'w')",
    "changes prepare.py": "open('prepare.py', 'w').write('X = 1')",
    "removes prepare.py": "os.unlink('prepare.py')",
    "opens TCP": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "listens on TCP": "socket.create_server(('127.0.0.1', 0))",
    "sends UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "commands the engine": "s = socket.socket(socket.AF_UNIX); s.connect(SOCKET); s.recv(10)",
    "commands it through a link": (
        "os.symlink(SOCKET, 'to'); s = socket.socket(socket.AF_UNIX); s.connect('to'); s.recv(10)"
    ),
    "kills the engine": "os.kill(ENGINE, 9)",
    "kills the supervisor": "os.kill(os.getppid(), 9)",
    "limits the engine": "resource.prlimit(ENGINE, resource.RLIMIT_NOFILE, (4, 4))",
    "traces the engine": "call(101 if X86 else 117, 16, ENGINE, 0, 0)",
    "takes a file from the engine": "call(438, call(434, ENGINE, 0), 1, 0)",
    "makes a user namespace": "call(272 if X86 else 97, 0x10000000)",
    "goes through io_uring": "call(425, 8, ctypes.create_string_buffer(200))",
    "opens a key to others": "os.chmod(HOME + '/.ssh/id_rsa', 0o644); sys.exit('tried')",
    "leaves a daemon": "daemon()",
    "fills the disk": "open('big', 'wb').write(bytes(300_000_000))",
    "fills the disk with many files": "fill(); time.sleep(60)",
    "eats memory": "x = b'1' * 600_000_000; time.sleep(60)",
    "prints a gigabyte": "for i in range(1000): sys.stdout.write('x' * 1_000_000 + chr(10))",
    "prints escape sequences": "print(chr(27) + ']0;owned' + chr(7) + chr(27) + '[2J', 'red'); sys.exit(3)",
    "fakes a summary": "print('---\\nval_bpb: 0.000001\\ntraining_seconds: 300'); sys.exit()",
}  # fmt: skip

PREFIX = """\
import ctypes, os, resource, signal, socket, sys, time
X86 = os.uname().machine == 'x86_64'
ENGINE = int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1])
RUN = os.path.dirname(os.path.dirname(os.environ['AUTORESEARCH_MODEL_FILE']))
def fill():
    for i in range(4):
        open(f'f{i}', 'wb').write(bytes(50_000_000))
def call(*words):
    libc = ctypes.CDLL(None, use_errno=True)
    if (result := libc.syscall(*words)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def daemon():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            time.sleep(600)
        os._exit(0)
    os.wait()
"""


FILES = "files"
SIGNALS = "signals"
CALLS = "sockets and calls"
GIVEN = {FILES: SUPPORT.landlock >= 3, SIGNALS: SUPPORT.landlock >= 6, CALLS: SUPPORT.seccomp}
NEEDS = {
    **dict.fromkeys([name for name in ATTACKS if name.startswith(("opens TCP", "listens", "sends"))], CALLS),
    **dict.fromkeys(
        ["commands the engine", "commands it through a link", "limits the engine", "goes through io_uring"],
        CALLS,
    ),
    **dict.fromkeys(["makes a user namespace", "takes a file from the engine", "traces the engine"], CALLS),
    **dict.fromkeys(["opens a key to others"], CALLS),
    **dict.fromkeys(["kills the engine", "kills the supervisor"], SIGNALS),
    **dict.fromkeys([name for name in ATTACKS if name.startswith("reads")], FILES),
    **dict.fromkeys(["writes outside", "empties results.tsv", "forges its result"], FILES),
    **dict.fromkeys(["moves a file in", "changes the data"], FILES),
}
"""What a machine must have for an attack to be held off; the others are held off everywhere."""
TRIED = [name for name in ATTACKS if GIVEN.get(NEEDS.get(name, ""), True)]


class World:
    """One engine that trained every attack, one after the other, and what was left."""

    def __init__(self, folder: Path) -> None:
        self.root = make_repository(folder / "repo", TRAINER, CONFIG)
        (self.root / "prepare.py").write_text("X = 0\n")
        git(self.root, "add", ".")
        git(self.root, "commit", "-qm", "more")
        self.home, self.key, self.data = folder, folder / ".ssh/id_rsa", folder / "data/tokens.bin"
        for path in (self.key, self.data):
            path.parent.mkdir()
            path.write_text("precious\n")
        self.key.chmod(0o600)
        self.heard: list[str] = []
        self.bench = Bench(
            self.root, ScriptedAgent(self.attack), rule="improved", baseline_runs=1, audit="report",
            max_experiments=1 + len(TRIED), max_crashes=1000, fix_attempts=0,
        )  # fmt: skip

    def attack(self, context: ResearchContext) -> Proposal:
        name = TRIED[context.n - 2]
        names = {
            "HOME": str(self.home),
            "ROOT": str(self.root),
            "SOCKET": str(self.socket),
            "PORT": self.port,
        }
        given = "".join(f"{key} = {value!r}\n" for key, value in names.items())
        return Proposal(name, f"{given}{PREFIX}{ATTACKS[name]}\n{TRAINER}")

    async def run(self) -> None:
        before = psutil.Process().memory_info().rss
        server = Server(self.bench.paths.socket())
        self.socket = server.path
        await server.open(self.bench.engine)
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            self.port = tcp.getsockname()[1]
            udp.bind(("127.0.0.1", self.port))
            self.why = await self.bench.run()
            for listener in (tcp, udp):
                listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                tcp.accept()
                self.heard.append("TCP")
            with contextlib.suppress(BlockingIOError):
                udp.recv(10)
                self.heard.append("UDP")
        await server.close()
        self.engine_bytes = psutil.Process().memory_info().rss - before

    def of(self, name: str) -> Experiment:
        """What became of an attack."""
        if name not in TRIED:
            pytest.skip(f"this machine's fence is {SUPPORT}: it cannot hold {NEEDS[name]}")
        found = self.bench.engine.state.experiment(2 + TRIED.index(name))
        assert found.description == name
        assert "\n" not in found.reason
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("ANTHROPIC_API_KEY", "sk-engine-only")
        patch.setenv("XDG_RUNTIME_DIR", str(folder))

        async def run() -> World:
            world = World(folder)
            await world.run()
            return world

        yield asyncio.run(run())


HELD_OFF = [name for name, need in NEEDS.items() if name != "opens a key to others"]


@pytest.mark.parametrize("name", HELD_OFF)
def test_it_is_refused_and_said_in_one_line(world: World, name: str) -> None:
    e = world.of(name)
    assert e.phase == "crash"
    assert e.reason.startswith("PermissionError: ")
    assert "sandbox" in e.reason


def test_the_loop_went_on_to_the_last_of_them(world: World) -> None:
    assert world.why == f"limit reached: {1 + len(TRIED)} experiments"
    frame = results.read(world.root / "results.tsv")
    assert frame["description"].to_list() == ["baseline", *TRIED]
    assert frame["status"].to_list().count("keep") == 1
    assert git(world.root, "status", "--porcelain") == "?? results.tsv"
    git(world.root, "fsck", "--strict")


def test_nothing_outside_has_changed(world: World) -> None:
    assert world.key.read_text() == world.data.read_text() == "precious\n"
    assert not (world.root / "owned").exists()
    assert (world.root / "notes.txt").read_text() == "mine\n"


def test_nothing_left_the_machine(world: World) -> None:
    world.of("opens TCP"), world.of("sends UDP")
    assert world.heard == []


def test_the_mode_of_a_file_outside_stays(world: World) -> None:
    assert world.of("opens a key to others").reason == "tried (exit code 1)"
    assert world.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["changes prepare.py", "removes prepare.py"])
def test_a_run_that_changed_a_protected_file_is_not_kept(world: World, name: str) -> None:
    assert (world.of(name).phase, world.of(name).reason) == ("discard", "it changed prepare.py")


def test_a_daemon_ends_with_its_run(world: World) -> None:
    e = world.of("leaves a daemon")
    said = f"experiment {e.n}: ended 1 process that it left behind"
    assert said in [notice.text for notice in world.bench.events(ev.Notice)]
    mark = str(world.bench.paths.training(e.n, 1))
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert mark not in process.environ().get("AUTORESEARCH_MODEL_FILE", "")


def test_the_disk_is_not_filled(world: World) -> None:
    assert world.of("fills the disk").reason.startswith("OSError: [Errno 27] File too large")
    many = world.of("fills the disk with many files")
    assert re.fullmatch(r"wrote 0\.\d GB of files, limit 0\.1 GB", many.reason)


def test_memory_is_not_eaten(world: World) -> None:
    assert re.fullmatch(r"used \d\.\d GB of memory, limit 0\.4 GB", world.of("eats memory").reason)


def test_a_gigabyte_of_output_fills_neither_disk_nor_engine(world: World) -> None:
    e = world.of("prints a gigabyte")
    assert e.reason == "printed more than 64 MB"
    assert (world.bench.paths.training(e.n, 1) / "run.log").stat().st_size == 64 * 2**20
    assert world.engine_bytes < 200 * 2**20


def test_escape_sequences_reach_no_screen(world: World) -> None:
    assert world.of("prints escape sequences").reason == "red (exit code 3)"
    assert not any("\x1b" in ev.encode(record).decode() for record in world.bench.records)
    assert "\\u001b" not in world.bench.paths.journal.read_text()


def test_a_made_up_summary_is_not_believed(world: World) -> None:
    e = world.of("fakes a summary")
    assert e.phase == "discard"
    assert "it says that it trained for 300 s, but it ran for" in e.reason


async def test_without_a_fence_a_run_that_changed_the_data_is_seen_and_the_loop_waits(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = tmp_path / "data/tokens.bin"
    data.parent.mkdir()
    data.write_text("precious\n")
    (repository / "autoresearch.toml").write_text(CONFIG)
    git(repository, "commit", "-qam", "settings")
    script = ScriptedAgent(lambda c: Proposal("x", f"open({str(data)!r}, 'w')\n{TRAINER}"))
    bench = Bench(repository, script, max_experiments=3, sandbox="off", audit="report", rule="improved")
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.paused)
    assert bench.engine.state.paused == f"training changed the data ({data}): prepare it again, then resume"
    await until(lambda: bench.engine.state.experiment(2).judged)
    assert bench.engine.state.experiment(2).reason == f"it changed {data}"
    bench.engine.stop("enough", now=True)
    await running


async def fenced(tmp_path: Path, code: str, support: Support = SUPPORT) -> str:
    """What this code prints as a trainer behind a fence."""
    (tmp_path / "train.py").write_text(code)
    cache, scratch = tmp_path / "cache", tmp_path / "s"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    given = fence.make_fresh_folders(scratch, cache=cache, data=[tmp_path / "data"], environ=environment)
    files = training_folder.TrainingFolder(tmp_path / "run")
    command = [sys.executable, "train.py"]
    around = fence.build(support, environment, command=command, data=[], write=[tmp_path, scratch, cache])
    spec = training_folder.Spec(
        command, str(tmp_path), {**environment, **given}, str(files.log), str(files.exit),
        str(files.supervisor), 60, commit="c", fence=around,
    )  # fmt: skip
    await supervisor.ended(supervisor.Standby(tmp_path / "lock").start(files, spec))
    found = files.read_exit("c")
    assert found is not None
    assert (found.outcome, found.reason) == ("finished", ""), files.end_of_log()
    return files.end_of_log()


def test_a_limit_that_cannot_be_set_is_left_out_and_the_others_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gVisor refuses some to everybody: every training ended there before its first line."""
    done = list[int]()

    def set_or_refuse(kind: int, limits: tuple[int, int]) -> None:
        if kind == resource.RLIMIT_RTPRIO:
            raise ValueError("not allowed to raise maximum limit")
        if kind == resource.RLIMIT_NICE:
            raise PermissionError
        done.append(kind)

    monkeypatch.setattr(resource, "setrlimit", set_or_refuse)
    sandbox.limit({"file_bytes": 2**30})
    names = ("CORE", "NPROC", "SIGPENDING", "FSIZE")
    assert done == [getattr(resource, f"RLIMIT_{name}") for name in names]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 1024), (768, 768)),
        ((4096, 4096), (3072, 3072)),
        ((1024, 2**20), (1024, 3 * 2**18)),
        ((1024, resource.RLIM_INFINITY), (1024, resource.RLIM_INFINITY)),
    ],
)
def test_most_of_the_files_that_it_may_open_are_left_to_a_training(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """The workers that load its data open many; where there is no limit, none is made."""
    done = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "getrlimit", lambda _: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    sandbox._pass_on({}, None)
    assert done[-1] == after


async def test_worker_processes_and_their_pipes_work_inside(tmp_path: Path) -> None:
    """What training itself needs: processes, threads, sockets of its own, shared memory, temporary files."""
    assert await fenced(tmp_path, WORKERS) == "[0, 1, 4, 9]\nhi\nshared\nconnected\n"


@pytest.mark.parametrize("own", [True, False])
async def test_shared_memory_starts_empty_and_ends_empty(tmp_path: Path, own: bool) -> None:
    """Where the kernel cannot give a trainer its own, what it leaves in that of all programs is removed."""
    if own and not SUPPORT.memory:
        pytest.skip("this kernel gives nobody shared memory of his own")
    name = f"autoresearch-test-{os.getpid()}"
    before = Path(f"/dev/shm/{name}-before")
    before.write_text("x")
    code = f"""
import ctypes, os
print(os.path.exists({str(before)!r}))
open("/dev/shm/{name}", "w").write("what a training learned")
libc = ctypes.CDLL(None, use_errno=True)
print(libc.shmget(0x0A71F1, 4096, 0o1666) >= 0)
"""
    try:
        for _ in range(2):
            support = msgspec.structs.replace(SUPPORT, memory=own)
            assert await fenced(tmp_path, code, support) == f"{not own}\nFalse\n"
            assert [path.name for path in Path("/dev/shm").glob(f"{name}*")] == [before.name]
    finally:
        before.unlink()


async def test_a_socket_in_the_shared_memory_of_other_programs_cannot_be_reached(tmp_path: Path) -> None:
    path = f"/dev/shm/autoresearch-test-{os.getpid()}.sock"
    code = f"""
import socket
s = socket.socket(socket.AF_UNIX)
try:
    s.connect({path!r})
except OSError as error:
    print(type(error).__name__)
"""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(path)
            listener.listen()
            assert await fenced(tmp_path, code) in ("PermissionError\n", "FileNotFoundError\n")
        finally:
            os.unlink(path)


WORKERS = """
import multiprocessing, os, subprocess, sys, tempfile, threading
from multiprocessing.connection import Client, Listener
from multiprocessing.shared_memory import SharedMemory

def square(x):
    return x * x

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(square, range(4)), flush=True)
    thread = threading.Thread(target=lambda: subprocess.run(["/bin/sh", "-c", "echo hi"], check=True))
    thread.start()
    thread.join()
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("x")
    memory = SharedMemory(create=True, size=100)
    memory.buf[:6] = b"shared"
    print(bytes(memory.buf[:6]).decode())
    memory.close()
    memory.unlink()
    with Listener(family="AF_UNIX") as listener:
        thread = threading.Thread(target=lambda: Client(listener.address).send("connected"))
        thread.start()
        print(listener.accept().recv())
        thread.join()
"""


async def test_without_a_fence_a_trainer_still_cannot_command_the_engine(repository: Path) -> None:
    """The engine itself turns away whoever descends from a supervisor."""
    path = ""
    speak = (
        f"{PREFIX}s = socket.socket(socket.AF_UNIX); s.connect(PATH); sys.exit(s.recv(10) or 'turned away')\n"
    )
    script = ScriptedAgent(lambda c: Proposal("x", f"PATH = {path!r}\n{speak}{TRAINER}"))
    bench = Bench(repository, script, max_experiments=2, sandbox="off", audit="report", baseline_runs=1)
    server = Server(bench.paths.socket())
    path = str(server.path)
    await server.open(bench.engine)
    await bench.run()
    await server.close()
    assert bench.engine.state.experiment(2).reason == "turned away (exit code 1)"
