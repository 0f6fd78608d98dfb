"""The supervisor: the process between the engine and one training.

    python -I -S loop/training/programs/supervise.py < SPEC

SPEC is a line of JSON, a `loop.records.training_folder.Spec`; it comes through a pipe, so that its
environments are in no file. The program waits for that line, so that it can be started before it is needed.
Then it runs the trainer, lets the model that the trainer saved be judged (`judge`), and writes `exit.json`.
It is a process of its own so that a training and its result survive the engine; therefore it also keeps the
time-out and the other limits.

When the trainer ends, or on SIGTERM, time-out or an exceeded limit, it ends every process that the trainer
has started, also those that called setsid (tree.py). With a `lease` it does so too when its standard input
closes: on a machine that somebody else manages, no training outlives the one who started it. A training that
ended well is noted in `trained.json`: should this process be killed while the model is judged, the next one
judges it without training again.

The trainer runs behind the fence of sandbox.py. This process does not, and the trainer can neither end nor
change it. It uses the standard library only, so that it starts in milliseconds and on any machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING or __name__ != "__main__":
    from loop.training.programs import broker, group, leftovers, sandbox, tree, usage
else:  # as a program it is not in its package: its neighbours are found beside it
    sys.path.append(str(Path(__file__).parent))
    import broker
    import group
    import leftovers
    import sandbox
    import tree
    import usage

POLL_S = 0.1
"""Seconds between two looks at the time-out, the size of the log and received signals."""
MEASURE_S = 1.0
"""Seconds between two measurements of processes, memory and disk: each reads all of /proc."""
STALL_S = 1.0
"""When this process is woken so much too late, the machine stood still: it was overloaded, or frozen."""

Verdict = tuple[str, str]
"""How something ended, as `loop.events.Outcome`, and the reason in words; empty when it just finished."""


def main() -> None:
    """Read a line from standard input and run the training that it describes."""
    os.umask(0o077)
    group.end_abandoned()
    own = group.Group()
    line = sys.stdin.buffer.readline()
    if line.endswith(b"\n"):  # else the engine that started this process is gone
        run(json.loads(line), own)


def run(spec: dict[str, Any], own: group.Group) -> None:
    """Run one training, from its first process to the end of its last one, and write exit.json.

    `own` is the group of this process.
    """
    write(Path(spec["supervisor"]), {"pid": os.getpid(), "ticks": tree.ticks(os.getpid())}, durable=False)
    tree.adopt()
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: stopped.append(n))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with open(spec["log"], "ab", buffering=0) as log:
        report = earlier(spec) or train(spec, log, stopped, own)
        if spec["judge"] and report["outcome"] == "finished":
            write(Path(spec["trained"]), report, durable=True)
            report |= judge(spec, log, stopped, own)
            report["ended"] += report["judge_seconds"]
    write(Path(spec["exit"]), report, durable=True)


def earlier(spec: dict[str, Any]) -> dict[str, Any] | None:
    """How the training ended that an earlier supervisor finished; None when there was none."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(Path(spec["trained"]).read_text())
        return found
    return None


def train(spec: dict[str, Any], log: IO[bytes], stopped: list[int], own: group.Group) -> dict[str, Any]:
    """Run the trainer and end all that it started; returns what exit.json says of it.

    Times are computed with the monotonic clock, so that setting the machine's clock does not change them.
    """
    started, clock = time.time(), time.monotonic()
    report = {"started": started, "ended": started, "exit_code": 127, "trainer_seconds": 0.0}
    shared = leftovers.shared()
    before = own.seconds() - time.process_time()
    try:
        child, memory = start(
            spec, spec["command"], spec["env"], spec["fence"], log.fileno(), stdout=log.fileno()
        )
    except OSError as error:
        reason = f"cannot start {spec['command'][0]}: {error.strerror}"
        return {**report, "outcome": "crashed", "reason": reason}
    limit_s, meter, stalled = float(spec["timeout_s"]), usage.Meter(spec, memory, own), list[float]()
    leftovers.discard(spec["discard"])
    ended = watch(tree.end_of(child.pid), meter, [log], stopped, clock + limit_s, stalled)
    outcome, reason = ended or ("finished", "")
    if outcome == "timeout":
        reason = f"still running after {limit_s:g} s"
    seconds = time.monotonic() - clock
    if outcome == "finished" and (code := child.wait()):
        outcome, reason = "crashed", tree.describe(code)
    left = tree.end_all(child.pid, own.end, tree.GRACE_S if ended else tree.LEAVE_S)
    if memory is not None:
        os.close(memory)
    clear(spec, shared)
    leftovers.leave_only(spec["saved"])
    if left.killed and outcome == "finished":
        reason = f"ended {left.killed} process{'es' * (left.killed > 1)} that it left behind"
    if left.stuck:
        reason += f"{'; ' * bool(reason)}process {left.stuck[0]} hangs in the kernel and cannot be killed"
    if printed(log) > spec["log_bytes"]:
        outcome, reason = "crashed", flooded(spec)
        os.ftruncate(log.fileno(), spec["log_bytes"])
    # Here the kernel does not count processes whose parent ignores their end: only `watch` and the group do.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "outcome": outcome,
        "reason": reason,
        "exit_code": left.codes.get(child.pid, child.poll() or 0),
        "started": started,
        "ended": started + time.monotonic() - clock,
        "trainer_seconds": seconds,
        "cpu_seconds": max(
            used.ru_utime + used.ru_stime,
            meter.seconds(),
            own.seconds() - time.process_time() - before,
        ),
        "stalled_seconds": sum(stalled),
    }


def clear(owner: dict[str, Any], shared: set[tuple[str, int]]) -> None:
    """Remove what a trainer or an answerer, which is dead with all that it started, has left.

    `shared` is what was in shared memory before.
    """
    for folder in owner["remove"]:
        with contextlib.suppress(OSError):  # it is made anew before anybody uses it
            leftovers.remove(Path(folder))
    if owner["fence"]["on"] and not owner["fence"]["memory"]:
        leftovers.forget(shared)


def judge(spec: dict[str, Any], log: IO[bytes], stopped: list[int], own: group.Group) -> dict[str, Any]:
    """Let the saved model be judged; returns what that changes in exit.json.

    `judge_failed` says that our own judge did not do its work. Then nothing is known of the model, and it can
    be judged again.
    """
    clock = time.monotonic()
    log.write(b"phase: evaluating\n")
    outcome, reason = evaluate(spec, log, stopped, own)
    if outcome == "timeout":
        reason = f"measuring its model took longer than {float(spec['judge']['timeout_s']):g} s"
    tree.end_all(end_more=own.end)
    failed = outcome == "failed"
    found = {"outcome": "crashed" if failed else outcome, "judge_failed": failed}
    if outcome != "finished":
        found["reason"] = reason
    return {**found, "judge_seconds": time.monotonic() - clock}


def evaluate(spec: dict[str, Any], log: IO[bytes], stopped: list[int], own: group.Group) -> Verdict:
    """Start the judge, and for it the claimant and then the witness (`loop.records.training_folder.Judge`).

    The judge asks both through pipes. The witness starts once the claimant and all that it started are dead,
    so nothing can be told from one to the other.
    """
    rules = spec["judge"]
    deadline = time.monotonic() + float(rules["timeout_s"])
    if not is_plain_file(rules["model"]):
        return "crashed", "it saved no model: call evaluate(model, data, clock) at the end"
    pairs = [(os.pipe(), os.pipe()) for _ in rules["answerers"]]  # for questions and for answers
    ends = [str(end) for questions, answers in pairs for end in (questions[1], answers[0])]
    try:
        process = subprocess.Popen(
            [*rules["command"], "--claimant", *ends[:2], "--witness", *ends[2:], *rules["words"]],
            cwd=rules["cwd"],
            env=rules["env"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[int(end) for end in ends],
            preexec_fn=tree.die_with_parent,
        )
    except OSError as error:
        return "failed", f"the judge cannot be started: {error.strerror}"
    finally:
        for end in ends:
            os.close(int(end))
    meter = usage.Meter(spec, own=own)
    with open(rules["log"], "ab", buffering=0) as private:
        for answerer, (questions, answers) in zip(rules["answerers"], pairs, strict=True):
            keeper = keep(spec, answerer, questions[0], answers[1], private.fileno())
            os.close(questions[0])
            os.close(answers[1])
            if ended := watch(tree.end_of(keeper, process.pid), meter, [log, private], stopped, deadline):
                os.ftruncate(private.fileno(), min(os.fstat(private.fileno()).st_size, spec["log_bytes"]))
                return ended
            if process.poll() is not None:
                break
            os.waitpid(keeper, 0)
    if process.returncode is None and (
        ended := watch(tree.end_of(process.pid), meter, [log], stopped, deadline)
    ):
        return ended
    code = process.wait()
    return ("finished", "") if code == 0 else ("failed", f"the judge failed: {tree.describe(code)}")


def is_plain_file(path: str) -> bool:
    """Whether there is a file with something in it, not a link or a pipe or whatever a trainer can leave."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_size > 0 and stat.S_ISREG(found.st_mode)
    return False


def keep(spec: dict[str, Any], answerer: dict[str, Any], questions: int, answers: int, log: int) -> int:
    """Start a process that runs one answerer, and ends all that it started before it ends itself.

    `questions` and `answers` are its standard input and output; what it prints to its standard error goes to
    `log`. Returns the new process's pid.
    """
    if pid := os.fork():
        return pid
    code = 1
    try:
        tree.die_with_parent()
        tree.adopt()
        own = group.Group()
        rules, shared = spec["judge"], leftovers.shared()
        child, _ = start(
            {**spec, "cwd": rules["cwd"]}, rules["answers"], answerer["env"], answerer["fence"], log,
            stdin=questions, stdout=answers,
        )  # fmt: skip
        child.wait()
        tree.end_all(child.pid, own.end, tree.LEAVE_S)
        clear(answerer, shared)
        code = 0
    finally:
        os._exit(code)


def start(
    spec: dict[str, Any],
    command: list[str],
    env: dict[str, str],
    fence: dict[str, Any],
    log: int,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start a command in the folder `cwd` of `spec`, behind a fence; its standard error goes to `log`.

    Returns its process, and the folder of its own shared memory, opened, if it has some.
    """
    ours, theirs = socket.socketpair()

    def prepare() -> None:
        """Put the new process behind the fence, and let it die with this supervisor.

        This is called in the new process, just before the command starts in it.
        """
        tree.die_with_parent()
        tree.die_before_others()
        try:
            sandbox.enter(fence, theirs)
        except BaseException as error:
            os.write(log, f"the sandbox could not be set up: {error}\n".encode())
            os._exit(125)

    child = subprocess.Popen(
        command,
        cwd=spec["cwd"],
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=log,
        start_new_session=True,
        preexec_fn=prepare,
    )
    theirs.close()
    with ours:
        names, descriptors, _, _ = socket.recv_fds(ours, 64, 2)
    passed = dict(zip(names.decode().split(), descriptors, strict=True))
    if "listener" in passed:
        # This process would look for a socket in the shared memory of all programs.
        broker.serve(passed["listener"], [path for path in fence["write"] if path != leftovers.SHARED])
    return child, passed.get("memory")


def watch(
    wait: Callable[[float], bool],
    meter: usage.Meter,
    logs: list[IO[bytes]],
    stopped: list[int],
    deadline: float,
    stalled: list[float] | None = None,
) -> Verdict | None:
    """Wait until something ends; returns None then, else the limit that was exceeded or the order to stop.

    The reason is empty where the caller knows it better. `wait` waits so many seconds for the end. `stopped`
    holds the signals that this process has received. `deadline` is on the monotonic clock. `stalled` gets the
    seconds for which the machine stood still (`STALL_S`).
    """
    measured = now = time.monotonic()
    while True:
        asleep, ended = now, wait(POLL_S)
        now = time.monotonic()
        if stalled is not None and now - asleep > POLL_S + STALL_S:
            stalled.append(now - asleep - POLL_S)
        if ended:
            return None
        if meter.limits["lease"] and hung_up():
            stopped.append(signal.SIGHUP)
        if stopped:
            return "stopped", "stopped by the engine"
        if now > deadline:
            return "timeout", ""
        if any(printed(log) > meter.limits["log_bytes"] for log in logs):
            return "crashed", flooded(meter.limits)
        if now > measured + MEASURE_S or meter.is_urgent():
            if excess := meter.excess():
                return "crashed", excess
            measured = now = time.monotonic()


def flooded(limits: dict[str, Any]) -> str:
    """The reason to end what prints too much."""
    return f"printed more than {limits['log_bytes'] / 2**20:g} MB"


def printed(log: IO[bytes]) -> int:
    """Bytes of a log, with those that a trainer takes on the disk behind its end (fallocate(2))."""
    found = os.fstat(log.fileno())
    return max(found.st_size, found.st_blocks * 512)


def hung_up() -> bool:
    """Whether whoever started this process has closed its standard input, or has died."""
    poll = select.poll()
    poll.register(0, 0)  # the other end's closing is always reported
    return bool(poll.poll(0))


def write(path: Path, content: dict[str, Any], durable: bool) -> None:
    """Write a file that is there either whole or not at all; `durable` also if the machine loses power."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    main()
    os._exit(0)  # at once: the engine waits for this end, and there is nothing to tidy up
