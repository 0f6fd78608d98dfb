"""Turns what a trainer prints into live events."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import time

import msgspec

from loop import events as ev
from loop.paths import owner_only
from loop.text import clean
from loop.training import progress
from loop.training.executor import Job, Show

FOLLOW_S = 0.1
"""Seconds between two looks at the log file."""
CURVE_POINTS = 4000
"""Points of a loss curve that are kept in memory; when there are more, every second one is dropped."""
STEPS_AT_ONCE = 20
"""Where one look at the log finds more progress lines than this, only about so many of them are kept."""
METRICS_MOST = 16 * 2**20
"""Bytes of progress that are kept of one training: a line for each step of some days."""
BURST = 1 << 20
"""Bytes of a log that are read at once. Of output that comes faster, only the end is read."""


class Follower:
    """Reads the log of one training from its beginning, as it grows, and shows what is new as events.

    It also keeps what early stopping and the result of the training need: the loss curve, how many progress
    lines in a row had no finite loss, and for how long the trainer was seen making steps.
    """

    def __init__(self, job: Job, show: Show) -> None:
        """The training's folder must exist. Raises OSError."""
        self._job, self._show = job, show
        self._offset = 0
        """Bytes of the log that have been read."""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        """The beginning of a line whose end has not been printed yet."""
        self._metrics = open(job.folder.metrics, "wb", opener=owner_only)  # noqa: SIM115 - until `close`
        self._first_step: float | None = None
        self.steps_s = 0.0
        """Seconds from the first progress line to the last one, by the clock of this process."""
        self.curve: list[ev.CurvePoint] = []
        self.nans = 0
        """How many progress lines up to now, one after the other, had a loss that is not finite."""

    def read(self) -> None:
        """Show what has been printed since the last call; of more than `BURST` bytes only the end."""
        with contextlib.suppress(OSError), open(self._job.folder.log, "rb", opener=owner_only) as file:
            size = os.fstat(file.fileno()).st_size
            if size - self._offset > BURST:
                self._offset, self._rest = size - BURST, ""
            file.seek(self._offset)
            data = file.read(BURST)
            self._offset += len(data)
            self._take(self._decode(data))

    def close(self) -> None:
        """Read the rest, with a last line that has no end."""
        self.read()
        if self._rest:
            self._take("\n")
        self._metrics.close()

    def _take(self, text: str) -> None:
        """Show the lines that end in `text`. Lines and numbers of lines are cut to what a screen can use."""
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest, lines = self._rest[-10_000:], lines[-2000:]
        plain: list[str] = []
        steps: list[ev.Progress] = []
        for line in lines:
            line = clean(line[:10_000])
            if step := progress.parse(line):
                steps.append(msgspec.structs.replace(step, n=self._job.n, training=self._job.training))
                self._point(steps[-1])
            elif phase := progress.parse_phase(line):
                self._show(ev.PhaseChanged(self._job.n, self._job.training, phase))
            elif line.strip():
                plain.append(line[:1000])
        if steps:
            self._keep(steps)
            self._show(steps[-1])
        if plain:
            self._show(ev.LogLines(self._job.n, self._job.training, "\n".join(plain[-200:])))

    def _keep(self, steps: list[ev.Progress]) -> None:
        """Write progress to metrics.jsonl, thinned where it comes in floods, and at most `METRICS_MOST`."""
        for step in steps[:: max(1, len(steps) // STEPS_AT_ONCE)]:
            line = ev.encode(step) + b"\n"
            if self._metrics.tell() + len(line) <= METRICS_MOST:
                self._metrics.write(line)
        self._metrics.flush()

    def _point(self, step: ev.Progress) -> None:
        """Add a progress line to what is kept."""
        now = time.monotonic()
        self._first_step = now if self._first_step is None else self._first_step
        self.steps_s = now - self._first_step
        if step.loss is not None and math.isfinite(step.loss):
            self.curve.append(ev.CurvePoint(step.fraction, step.loss))
            if len(self.curve) > CURVE_POINTS:
                self.curve = self.curve[::2]
        self.nans = 0 if step.loss is None or math.isfinite(step.loss) else self.nans + 1
