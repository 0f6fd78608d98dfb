"""A long journal seals its older records; whatever happens meanwhile, none is lost, doubled or missed."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from loop import events as ev
from loop.errors import JournalError
from loop.records import journal, sealed
from loop.records.journal import Follow, Journal

SIZE = 2000
"""Bytes at which the journals of these tests are sealed."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEAL_AT", SIZE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def event(n: int) -> ev.DurableEvent:
    return ev.Steered(f"message {n}")


def append(path: Path, count: int) -> None:
    """Append so many events, with an engine of its own."""
    opened = Journal.open(path)
    for _ in range(count):
        opened.append(event(opened.seq + 1))
    opened.close()


def events(path: Path) -> list[ev.AnyEvent]:
    return [record.event for record in journal.read(path)]


def test_a_long_journal_is_sealed_bit_by_bit_and_read_as_one(path: Path) -> None:
    append(path, 50)
    append(path, 50)
    assert len(sealed.parts(path)) > 3
    assert path.stat().st_size < 2 * SIZE
    assert [record.seq for record in journal.read(path)] == list(range(1, 101))
    assert events(path) == [event(n) for n in range(1, 101)]
    assert sealed.parts(path)[0].name == "journal.000000001.jsonl.gz"
    assert gzip.decompress(sealed.parts(path)[0].read_bytes()).startswith(b'{"type":"record","seq":1,')
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


CALLS = ("os.fsync", "os.replace", "os.open", "os.unlink", "tempfile.NamedTemporaryFile")


def counted(patch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[int]:
    """Call `before` with the number of the call at each call of the disk; its last number is in the list."""
    count = [0]
    modules = {"os": os, "tempfile": tempfile}
    for name in CALLS:
        module, call = name.split(".")
        real = getattr(modules[module], call)

        def counting(*words: object, real: Callable[..., object] = real, **more: object) -> object:
            count[0] += 1
            before(count[0])
            return real(*words, **more)

        patch.setattr(modules[module], call, counting)
    return count


class Killed(BaseException):
    """The engine is gone: nothing that it would do afterwards happens."""


def fail_at(number: int, error: BaseException, *, for_good: bool) -> Callable[[int], None]:
    def before(call: int) -> None:
        if call == number or (for_good and call > number):
            raise error

    return before


@pytest.mark.parametrize("number", range(1, 16))
@pytest.mark.parametrize("fault", ["killed", "full", "full for good"])
def test_no_record_is_lost_wherever_a_seal_is_interrupted(path: Path, number: int, fault: str) -> None:
    opened, done = Journal.open(path), 0
    while path.stat().st_size < SIZE:
        done = opened.append(event(opened.seq + 1)).seq
    error = Killed() if fault == "killed" else OSError(28, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, fail_at(number, error, for_good=fault != "full"))
        for _ in range(3):
            try:
                done = opened.append(event(opened.seq + 1)).seq
            except Killed:
                break
            except OSError:
                pass
    found = len(events(path))
    assert found == done or (fault == "killed" and found == done + 1)  # it died as it wrote one more
    done = found
    assert events(path) == [event(n) for n in range(1, done + 1)]
    if fault != "killed":
        for _ in range(40):
            opened.append(event(opened.seq + 1))
        done += 40
    append(path, 20)
    assert events(path) == [event(n) for n in range(1, done + 21)]
    assert sealed.parts(path)


def test_what_is_sealed_while_it_is_read_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, 15)
    real = sealed.parts

    def just_then(journal_path: Path) -> list[Path]:
        """Between the opening of the newest records and the older ones, the engine seals them."""
        monkeypatch.setattr(sealed, "parts", real)
        sealed.seal(path)
        return real(journal_path)

    monkeypatch.setattr(sealed, "parts", just_then)
    assert events(path) == [event(n) for n in range(1, 16)]
    assert path.read_bytes() == b""


def test_who_follows_misses_nothing_and_hears_nothing_twice(path: Path) -> None:
    opened, follow, heard = Journal.open(path), Follow(path), list[ev.AnyEvent]()
    for n in range(1, 200):
        opened.append(event(n))
        if n % 17 == 0 or n > 180:  # sometimes several seals have gone by
            heard += [journal.decode(line).event for line in follow.lines()]
            assert heard == [event(k) for k in range(1, n + 1)]
    sealed.seal(path)
    assert list(follow.lines()) == []
    late = Follow(path)
    assert [journal.decode(line).event for line in late.lines()] == heard


def test_who_follows_hears_what_was_sealed_before_anything_else_came(path: Path) -> None:
    append(path, 5)
    follow = Follow(path)
    assert len(list(follow.lines())) == 5
    append(path, 3)
    sealed.seal(path)
    assert [journal.decode(line).event for line in follow.lines()] == [event(n) for n in (6, 7, 8)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda part: part.write_bytes(part.read_bytes()[:40]),
        lambda part: part.write_bytes(b"no gzip"),
        lambda part: part.write_bytes(b""),
        lambda part: os.mkfifo(part.rename(part.with_suffix(".old")).with_suffix(".gz")),
        lambda part: part.rename(part.with_suffix(".old")).with_suffix(".gz").symlink_to("/dev/zero"),
        lambda part: part.unlink(),
        lambda part: part.write_bytes(gzip.compress(b"no record\n")),
    ],
    ids=["cut", "no gzip", "empty", "pipe", "link", "gone", "no record"],
)
def test_a_part_that_was_spoiled_is_said_in_one_line(path: Path, spoil: Callable[[Path], object]) -> None:
    append(path, 60)
    spoil(sealed.parts(path)[0])
    with pytest.raises(JournalError, match=r"journal\S*jsonl") as found:
        journal.read(path)
    assert "\n" not in str(found.value)


def test_doubled_records_are_refused_where_nothing_was_sealed(path: Path) -> None:
    append(path, 3)
    path.write_bytes(path.read_bytes() + path.read_bytes())
    with pytest.raises(JournalError, match="line 4 has number 1"):
        journal.read(path)
