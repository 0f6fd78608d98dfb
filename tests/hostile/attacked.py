"""Runs all attacks of attacks.py behind the fence, and prints as JSON what became of each of them.

    python -m tests.hostile.attacked FOLDER

It is a program, so that a test can let another user run it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from loop.records.training_folder import Spec, TrainingFolder
from loop.training import fence, supervisor
from loop.training.programs import group
from tests.hostile.attacks import TRAINER

VICTIM = """
import signal, sys, time
signal.signal(signal.SIGUSR2, lambda *_: open(sys.argv[1], "w").close())
print("ready", flush=True)
time.sleep(60)
"""


def run(folder: Path) -> dict[str, str]:
    """What became of each attack, and of what it could have changed (the names that begin with `still`)."""
    slot, outside, file = folder / "slot", folder / "outside", folder / "key"
    slot.mkdir()
    outside.mkdir(mode=0o700)
    file.write_text("precious\n")
    file.chmod(0o600)
    at, abstract = file.stat(), f"\0{folder}"
    signalled = folder / "signalled"
    victim = subprocess.Popen([sys.executable, "-I", "-c", VICTIM, str(signalled)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    victim.stdout.readline()
    cores = os.sched_getaffinity(victim.pid)
    groups = group.place()
    top = str(groups.top) if groups else "/sys/fs/cgroup"
    names = {
        "VICTIM": victim.pid,
        "TOP": top,
        "FILE": str(file),
        "OUTSIDE": str(outside),
        "ABSTRACT": abstract,
    }
    with socket.socket(socket.AF_UNIX) as hidden, socket.socket(socket.AF_UNIX) as listening:
        hidden.bind(abstract)
        listening.bind(f"{outside}/socket")
        for listener in (hidden, listening):
            listener.listen()
        try:
            printed = asyncio.run(_train(folder, slot, names, str(file)))
        finally:
            nice = os.getpriority(os.PRIO_PROCESS, victim.pid)
            same = os.sched_getaffinity(victim.pid) == cores
            policy = os.sched_getscheduler(victim.pid) == os.SCHED_OTHER
            alive = victim.poll() is None
            victim.send_signal(signal.SIGKILL)
            victim.wait()
    found = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    after = file.stat()
    kept = ("st_mode", "st_mtime", "st_uid")
    own = os.getpriority(os.PRIO_PROCESS, 0)
    return {
        **found,
        "still its place": str(nice == own and same and policy),
        "still alone": str(alive and not signalled.exists()),
        "still closed": str(all(getattr(after, name) == getattr(at, name) for name in kept)),
        "still precious": str(file.read_text() == "precious\n" and after.st_nlink == 1),
        "still no program of this user": str(
            not any(path.lstat().st_mode & 0o6000 for path in slot.rglob("*"))
        ),
        "still empty": str(sorted(path.name for path in outside.iterdir()) == ["socket"]),
    }


async def _train(folder: Path, slot: Path, names: dict[str, object], file: str) -> str:
    """What a trainer prints that makes the attacks."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    (slot / "train.py").write_text(given + TRAINER)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    scratch = folder / "s"
    variables = fence.make_fresh_folders(scratch, cache=folder / "c", data=[], environ=environment)
    files, command = TrainingFolder(folder / "run"), [sys.executable, "train.py"]
    around = fence.build(
        fence.detect(), environment, command=command, data=[], write=[slot, scratch], read=[file]
    )
    spec = Spec(
        command, str(slot), {**environment, **variables}, str(files.log), str(files.exit),
        str(files.supervisor), 60, commit="c", fence=around, folders=[str(slot)], disk_gb=1.0, memory_gb=4.0,
    )  # fmt: skip
    await supervisor.ended(supervisor.Standby(folder / "lock").start(files, spec))
    ended = files.read_exit("c")
    assert ended is not None
    return f"{files.end_of_log()}ended: {ended.outcome} {ended.reason}\n"


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
