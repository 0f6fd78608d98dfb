"""Recorded runs: what the cockpit shows in tests comes from the same events as those of a real engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable

import msgspec

from loop import events as ev
from loop.client import Refused
from loop.judging.short import short_reason
from loop.judging.verdict import Verdict
from loop.records import other_rows
from loop.state import Experiment, RunState, fold

START = 1_763_900_000.0
"""Monday, 2025-11-23: the clock of every recording starts here."""
BEFORE = """\
import torch

# --- hyperparameters ---
DEPTH = 3  # transformer blocks [1, 8]
WIDTH = 128  # residual width [64, 512]
MATRIX_LR = 0.02  # Muon [0.004, 0.1]
WARMDOWN = 0.6  # share of the budget [0.2, 1.0]
# --- end ---


def norm(x):
    return x / x.square().mean(-1, keepdim=True).sqrt()
"""
AFTER = BEFORE.replace("WIDTH = 128 ", "WIDTH = 160 ").replace("def norm(x):", "def norm(x, eps=1e-6):")
IDEAS = (
    ("halve the warm-down", "a longer plateau leaves more steps at full rate"),
    ("WIDTH 128 -> 160", "wider beats deeper at this budget"),
    ("untie the [bold]head[/bold]", "brackets in a description stay brackets"),
    ("MATRIX_LR 0.02 -> 0.03", "the loss still falls steeply at the end"),
    ("squared ReLU -> GELU", "smoother gradients"),
)


class Script:
    """Writes records with growing numbers and times."""

    def __init__(self) -> None:
        self.records: list[ev.Record] = []
        self.t = START
        self.state = RunState()

    def add(self, *events: ev.AnyEvent, after: float = 0.0) -> Script:
        self.t += after
        for event in events:
            seq = 0 if isinstance(event, ev.Live) else self.state.seq + 1
            self.records.append(ev.Record(seq, self.t, event))
            self.state.apply(self.records[-1])
        return self

    def begin(self, approval: bool = False) -> Script:
        created = ev.RunCreated("nov23", "/research", "7f2a65c" + "0" * 33, "nanogpt/train.py", ["python"])
        started = ev.EngineStarted(
            4242, "0.2.0", "claude", "claude-opus-5-5", 300.0, sandbox="full", approval=approval
        )
        machine = ev.Telemetry(
            37.0, 4.2, 24.0, [ev.Gpu("NVIDIA H100", 97.0, 60.0, 80.0, 61.0, 655.0, 700.0)], 3.1, 0.2
        )
        return self.add(created, started, machine)

    def propose(self, n: int, author: str = "agent") -> Script:
        idea, why = ("baseline", "") if n == 1 else IDEAS[n % len(IDEAS)]
        usage = ev.Usage(12_000, 9_000, 900, 300, 0.04, 21.0) if n > 1 else ev.Usage()
        if n > 1:
            self.add(
                ev.AgentDelta(n, "thinking", f"What limits experiment {n - 1}? " * 9, id=f"{n}t", t=self.t)
            )
            said = (
                f"The plateau is **too short**. I try: *{idea}*.\n\n1. change one thing\n2. measure `val_bpb`"
            )
            self.add(ev.AgentDelta(n, "text", said, id=f"{n}a", t=self.t))
            edit = (
                "nanogpt/train.py +2 -2\n-WIDTH = 128\n+WIDTH = 160\n-def norm(x):\n+def norm(x, eps=1e-6):"
            )
            self.add(ev.AgentDelta(n, "tool", edit, tool="str_replace", t=self.t))
            self.add(ev.CandidateEdited(n, "nanogpt/train.py", BEFORE, AFTER))
        return self.add(
            ev.ExperimentStarted(n, commit(n - 1)),
            ev.CandidateCommitted(n, commit(n), commit(n - 1), idea, why, 2, 2, usage),
            after=20.0,
        )

    def _needed(self) -> str:
        return f"kept below about {self.state.best - 0.0016:.4f}" if self.state.best else ""

    def train(self, n: int, seat: int = 0) -> Script:
        return self.add(
            ev.TrainingStarted(n, 1, commit(n), 1337, 300.0, seat, needed=self._needed()),
            ev.PhaseChanged(n, 1, "training"),
            after=1.0,
        )

    def progress(self, n: int, fraction: float, worse: float = 0.0) -> Script:
        for i in range(1, 41):
            part = fraction * i / 40
            loss = 2.2 + worse + 3 * math.exp(-6 * part)
            step = ev.Progress(
                n, 1, int(1400 * part), part, loss, 1.0, 310.0, 1_690_000.0, 39.8, 1, 300 * (1 - part)
            )
            self.add(
                step, ev.LogLines(n, 1, f"step {step.step:05d} | loss: {loss:.6f}"), after=300 * fraction / 40
            )
        return self

    def finish(self, n: int, value: float | None) -> Script:
        best = self.state.best
        outcome: ev.Outcome = "crashed" if value is None else "finished"
        reason = (
            "exit code 1: RuntimeError: mat1 and mat2 shapes cannot be multiplied" if value is None else ""
        )
        status: ev.Status = (
            "crash" if value is None else "keep" if best is None or value < best else "discard"
        )
        delta = value - best if value is not None and best is not None else None
        why = reason or f"{status}: lower wins"
        stderr = None if delta is None else 0.0008
        verdict = Verdict(status, value, 60.3, delta, why, stderr=stderr)
        return self.add(
            ev.TrainingFinished(
                n,
                1,
                outcome,
                reason,
                0,
                value,
                60.3,
                300.0,
                325.0,
                {"depth": 8.0},
                True,
                judge_seconds=14.0,
                about="climbmix, vocabulary 8,192, context 2,048",
                probes=96,
            ),
            ev.Judged(
                n,
                status,
                commit(n),
                value,
                60.3,
                why,
                delta,
                evidence="" if delta is None else f"{abs(delta) / 0.0008:.1f} standard errors",
                stderr=stderr,
                short=short_reason(self.state, self.state.experiment(n), verdict),
            ),
            ev.Logged(n),
            after=300.0,
        )

    def night(self, count: int) -> Script:
        """`count` judged experiments: slow progress, noise, a crash now and then."""
        self.begin()
        for n in range(1, count + 1):
            value = 0.9979 - 0.004 * math.log(n) + 0.003 * math.sin(7.0 * n)
            self.propose(n).train(n).finish(n, None if n % 7 == 5 else value)
        return self


def commit(n: int) -> str:
    return f"{(n * 2654435761) % 2**28:07x}" + "0" * 33


class Recorded:
    """A `Connection` to a recording: the test pushes events, commands are kept."""

    def __init__(self, records: Iterable[ev.Record] = ()) -> None:
        self.state: RunState = fold(records)
        self.sent: list[ev.AnyCommand] = []
        self.refuse = ""
        self.rows: list[str] = []
        """Rows of results.tsv that are not this run's."""
        self._queue: asyncio.Queue[ev.Record | None] = asyncio.Queue()

    def push(self, *events: ev.AnyEvent) -> None:
        for event in events:
            seq = 0 if isinstance(event, ev.Live) else self.state.seq + self._queue.qsize() + 1
            self._queue.put_nowait(ev.Record(seq, START + 9999, event))

    def lose(self) -> None:
        """The engine's end of the socket closes."""
        self._queue.put_nowait(None)

    async def records(self) -> AsyncIterator[ev.Record]:
        while (record := await self._queue.get()) is not None:
            self.state.apply(record)
            yield record

    async def send(self, command: ev.AnyCommand) -> str:
        self.sent.append(command)
        if self.refuse:
            raise Refused(self.refuse)
        return "done"

    async def experiment(self, n: int) -> ev.ExperimentDetail:
        curve = [ev.CurvePoint(i / 50, 2.25 + 3 * math.exp(-6 * i / 50) + 0.01 * n) for i in range(51)]
        said = [
            ev.AgentDelta(n, "text", "I make it **wider**.", id="a", t=START),
            ev.AgentDelta(n, "tool", "nanogpt/train.py +2 -2: WIDTH = 160", tool="str_replace", t=START),
        ]
        log = (
            "".join(f"step {i:05d} | loss: {p.loss:.6f}\n" for i, p in enumerate(curve))
            + "---\nval_bpb: 0.99\n"
        )
        return ev.ExperimentDetail(n, "nanogpt/train.py", BEFORE, AFTER, log, said, curve)

    async def others(self) -> list[Experiment]:
        return other_rows.experiments(self.rows)

    async def close(self) -> None:
        self.lose()


def training() -> Recorded:
    """Six experiments are judged, the seventh trains."""
    return Recorded(Script().night(6).propose(7).train(7).progress(7, 0.4).records)


def waiting() -> Recorded:
    """The third experiment waits for approval."""
    return Recorded(Script().night(2).propose(3).add(ev.ApprovalRequested(3)).records)


def team() -> Script:
    """Four experiments are judged, 5 trains; two agents talk at once about 6 and 7, each in turn."""
    script = Script().night(4).propose(5).train(5).progress(5, 0.3)
    for n, agent in ((6, "claude"), (7, "gpt")):
        script.add(ev.ExperimentStarted(n, commit(4), agent=agent))
    for turn in range(6):
        for n, wide in ((6, 160), (7, 192)):
            said = f"Message {turn} about {n}."
            script.add(ev.AgentDelta(n, "text", said, id=f"{n}.{turn}", t=script.t), after=1.0)
            after = BEFORE.replace("WIDTH = 128", f"WIDTH = {wide + turn}")
            script.add(ev.CandidateEdited(n, "nanogpt/train.py", BEFORE, after))
    return script


def busy(script: Script, gpus: int) -> Script:
    """Adds five minutes of measurements of a machine with so many GPUs; the last one tells little."""
    for i in range(60):
        wave = 0.5 + 0.5 * math.sin(i / 6)
        measured = [
            ev.Gpu("NVIDIA H100", 100 * wave, 40 + g, 80.0, 45 + 4 * g + 10 * wave, 300 + 350 * wave, 700.0)
            for g in range(gpus)
        ]
        if gpus > 1:
            measured[-1] = ev.Gpu("NVIDIA H100", None, 5.0)
        script.add(ev.Telemetry(37.0 + 20 * wave, 40 + i / 6, 128.0, measured, 3 + 2 * wave, 0.3), after=5)
    return script


def queue() -> Recorded:
    """Approval mode: 3 is approved, 4 and 5 wait."""
    script = Script().night(2).add(ev.ModeSet(True)).propose(3).propose(4).propose(5)
    script.add(ev.ApprovalRequested(3), ev.Approved(3), ev.ApprovalRequested(4), ev.ApprovalRequested(5))
    return Recorded(script.records)


def night() -> Script:
    """24 experiments are judged, 25 trains and 26 is proposed."""
    return Script().night(24).propose(25).train(25).propose(26).progress(25, 0.61)


def fleet(seats: int = 8) -> Script:
    """24 experiments are judged; on so many seats, but for one that is free and one that compiles, others
    train, and the next is proposed."""
    script = Script().night(24)
    engine = script.state.engine
    assert engine is not None
    script.add(msgspec.structs.replace(engine, seats=seats, gpu="NVIDIA H100"))
    for seat in range(seats):
        if seat != 5:
            script.propose(25 + seat - (seat > 5)).train(25 + seat - (seat > 5), seat)
    for seat in range(seats):
        if seat == 2:
            script.add(ev.PhaseChanged(27, 1, "compiling"))
        elif seat != 5:
            n = 25 + seat - (seat > 5)
            script.progress(n, 0.9 - 0.1 * (seat % 9), 0.02 * (seat % 5) - 0.04)
    return script.add(ev.ExperimentStarted(25 + seats - 1, commit(24)))
