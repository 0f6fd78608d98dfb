"""Turns what a trainer prints into live events."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import time
from collections.abc import Callable

import msgspec

from loop import events as ev
from loop.records.training_folder import TrainingFolder
from loop.text import clean
from loop.training import progress

FOLLOW_S = 0.1
"""How often the log file is looked at."""
CURVE_POINTS = 4000
"""Points of a loss curve that are kept in memory while a run goes on."""
BURST = 1 << 20
"""Bytes of a log taken in at once; of what comes faster only the end is shown."""


class Follower:
    """Reads what a trainer prints, from the beginning of its log or from where it was, and shows it as
    events.

    It also keeps what early stopping and the account of the training need: the loss curve, how many progress
    lines in a row had no finite loss, and for how long the trainer was seen making steps.
    """

    def __init__(
        self, files: TrainingFolder, n: int, training: int, publish: Callable[[ev.LiveEvent], None]
    ) -> None:
        self._files, self._n, self._training, self._publish = files, n, training, publish
        self._offset = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        """The beginning of a line whose end has not been printed yet."""
        self._metrics = files.metrics.open("wb")
        self._first_step: float | None = None
        self.steps_s = 0.0
        """Seconds from the first progress line to the last one, by our clock."""
        self.curve: list[ev.CurvePoint] = []
        self.nans = 0
        """Progress lines without a finite loss since the last one that had one."""

    def read(self) -> None:
        """Take in what is new; of more than a burst only its end."""
        with contextlib.suppress(OSError), self._files.log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size - self._offset > BURST:
                self._offset, self._rest = size - BURST, ""
            file.seek(self._offset)
            data = file.read(BURST)
            self._offset += len(data)
            self._take(self._decode(data))

    def close(self) -> None:
        self.read()
        if self._rest:
            self._take("\n")
        self._metrics.close()

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest, lines = self._rest[-10_000:], lines[-2000:]
        plain: list[str] = []
        latest: ev.Progress | None = None
        for line in lines:
            line = clean(line[:10_000])
            if step := progress.parse(line):
                latest = msgspec.structs.replace(step, n=self._n, training=self._training)
                self._point(latest)
                self._metrics.write(ev.encode(latest) + b"\n")
            elif phase := progress.parse_phase(line):
                self._publish(ev.PhaseChanged(self._n, self._training, phase))
            elif line.strip():
                plain.append(line[:1000])
        if latest:
            self._metrics.flush()
            self._publish(latest)
        if plain:
            self._publish(ev.LogLines(self._n, self._training, "\n".join(plain[-200:])))

    def _point(self, step: ev.Progress) -> None:
        now = time.monotonic()
        self._first_step = now if self._first_step is None else self._first_step
        self.steps_s = now - self._first_step
        if step.loss is not None and math.isfinite(step.loss):
            self.curve.append(ev.CurvePoint(step.fraction, step.loss))
            if len(self.curve) > CURVE_POINTS:
                self.curve = self.curve[::2]
        self.nans = 0 if step.loss is None or math.isfinite(step.loss) else self.nans + 1
