"""Brings a tracker up to date with a run, again and again: from the journal and the files of the trainings.

What the tracker has of an experiment is noted beside the experiment's files, for each tracker on its own. So
a follower that starts again goes on where the last one stopped. It notes points before it sends them: one
that is killed in between loses some points and doubles none. Everything else replaces what was there before,
so it may be sent twice.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE
from loop.paths import RunPaths, write_whole
from loop.records import journal
from loop.records.archive import KeptArchive
from loop.records.repository import Repository
from loop.records.shaped_file import read_shaped
from loop.records.training_folder import TrainingFolder
from loop.state import Experiment, RunState, Training
from loop.tracking import facts
from loop.tracking.tracker import Point, Tracker

NOTE_MOST = 2**20
"""Bytes that a note may have; it has about a hundred."""


class Sent(msgspec.Struct):
    """What a tracker has of one experiment."""

    facts: str = ""
    """A hash of the facts."""
    steps: dict[int, int] = {}
    """The last step of each training's curves, by the training's number."""


class _Open:
    """An experiment that trains now: what the tracker has of it, and how far its curves have been read."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.tails: dict[int, journal.Tail] = {}


class Follower:
    """Follows the journal of one run for one tracker."""

    def __init__(self, name: str, paths: RunPaths, repository: Repository) -> None:
        self._name, self._paths, self._repository = name, paths, repository
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet: the next `read` begins with the first record."""
        self._journal = journal.Follow(self._paths.journal)
        self.state = RunState()
        self._archive = KeptArchive(self._repository, self._paths, self.state)
        self._due: set[int] = set()
        """Experiments about which the tracker may not know everything yet."""
        self._open: dict[int, _Open] = {}
        """Those of them that have been looked at."""

    def read(self) -> None:
        """Take in what has happened since the last call.

        Raises `JournalError` or an error of `UNREADABLE`; the next call begins again, so that no record is
        passed over.
        """
        try:
            for line in self._journal.lines():
                record = journal.decode(line)
                self.state.apply(record)
                n = getattr(record.event, "n", None)
                if isinstance(n, int):
                    self._due.add(n)
        except BaseException:
            self._begin()
            raise

    def sync(self, tracker: Tracker) -> None:
        """Tell the tracker what it does not know yet. Raises what the tracker raises; it is told again."""
        for n in sorted(self._due):
            e = self.state.experiment(n)
            if e.trainings and e.commit:  # before its first training there is nothing to see
                open_ = self._open.pop(n, None) or _Open(read_note(self._file(n)))
                self._sync(tracker, e, open_)
                self._open[n] = open_
            if not self.state.trains(n):
                self._due.discard(n)
                self._open.pop(n, None)

    def _sync(self, tracker: Tracker, e: Experiment, open_: _Open) -> None:
        """Bring the tracker up to date with one experiment. After an error `open_` must not be used again:
        lines that it has read may not have been sent."""
        told = facts.facts(self.state, self._archive, e)
        if points := [point for training in e.trainings for point in self._new_points(e, training, open_)]:
            before = open_.sent
            steps = {**before.steps, **{point.training: point.step for point in points}}
            open_.sent = self._note(e.n, Sent(before.facts, steps))
            try:
                tracker.points(told, points)
            except BaseException:
                self._note(e.n, before)
                raise
        name = hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]
        if name != open_.sent.facts:
            tracker.describe(told)
            open_.sent = self._note(e.n, Sent(name, open_.sent.steps))

    def _new_points(self, e: Experiment, training: Training, open_: _Open) -> list[Point]:
        """The points of a training that the tracker has not got. A restarted engine writes them anew, and so
        does an attempt after a lost one: those that the tracker has are passed over."""
        folder = TrainingFolder(self._paths.training(e.n, training.number))
        tail = open_.tails.setdefault(training.number, journal.Tail(folder.metrics))
        last = open_.sent.steps.get(training.number, -1)
        steps = []
        for line in tail.lines():
            with contextlib.suppress(*UNREADABLE):
                if (step := msgspec.json.decode(line, type=ev.Progress)).step > last:
                    steps.append(step)
        return facts.points(training, steps)

    def _file(self, n: int) -> Path:
        return self._paths.experiment(n) / f"sent-{self._name}.json"

    def _note(self, n: int, sent: Sent) -> Sent:
        """Write down what the tracker has. Raises OSError."""
        self._file(n).parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._file(n), msgspec.json.encode(sent))
        return sent


def read_note(file: Path) -> Sent:
    """What the tracker has, as the note says; nothing where there is none that can be read."""
    with contextlib.suppress(OSError, *UNREADABLE):
        return msgspec.json.decode(read_shaped(file, NOTE_MOST) or b"", type=Sent)
    return Sent()
