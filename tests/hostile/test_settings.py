"""An autoresearch.toml may hold anything: it is settings, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loop import config, stranger
from loop.errors import UsageError
from loop.records.repository import Repository
from tests.hostile.test_parsers import mangled
from tests.hostile.texts import TOGETHER, unsafe

VALUES = [
    "1", "-1", "0", "1e999", "nan", "inf", "true", "9" * 400, "1979-05-27T07:32:00Z", "07:32:00", "[]",
    "[[]]", "[1, 2]", '[""]', '["a", "b"]', "{}", "{a = 1}", '"auto"', '""', '"\\u001b[2J"', '"../../etc"',
    '"\\u0000"', '"http://[::1"', '"http://x/v1"', '"x < 1"', f'"{"x" * 5000}"',
]  # fmt: skip

LISTS = ("train_command", "data")


def lines() -> st.SearchStrategy[bytes]:
    """Lines that set settings, ours or others, to anything."""
    names = [*config.described(), "unknown", '"\\u001b]0;x\\u0007"', "a.b.c"]
    line = st.tuples(st.sampled_from(names), st.sampled_from(VALUES)).map(lambda made: " = ".join(made))
    whole = st.lists(line, max_size=6, unique_by=lambda text: text.split(" ")[0]).map("\n".join)
    return whole.map(str.encode) | mangled([b'budget_s = 1\ndata = ["a"]\n[x]\ny = """z"""\n'])


def read(root: Path, content: bytes) -> None:
    """Read these settings as a stranger's and as the user's own. Fails on anything but one safe line."""
    (root / config.CONFIG).write_bytes(content)
    repository = Repository.discover(root)
    head = repository.head()
    try:
        for trusted in ((), list(config.described())):
            try:
                config.load(repository, head, {}, {}, trusted)
                found = stranger.wishes(repository, head, {}, {}, root / "trust")
            except UsageError as error:
                said = [str(error)]
            else:
                said = [found.ignored(), *map(str, found.every)]
            for text in said:
                assert "\n" not in text
                assert not unsafe(text), text
    finally:
        repository.close()


def fuzz(root: Path, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None, deadline=None)
    @given(lines())
    @example(b"a = " + b"[" * 100_000)
    @example(b"\xff\xfe")
    def check(content: bytes) -> None:
        read(root, content)

    check()


def test_settings_may_be_anything(repository: Path) -> None:
    fuzz(repository, 10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_settings_may_be_anything_many_times(repository: Path) -> None:
    fuzz(repository, 2000)


@pytest.mark.parametrize("name", ["metric", "model", "train_command", "base_url", "data", "odd"])
def test_settings_may_hold_what_steers_a_terminal(repository: Path, name: str) -> None:
    quoted = "".join(f"\\U{ord(c):08x}" for c in TOGETHER["everything"] if not 0xD800 <= ord(c) < 0xE000)
    read(repository, f'{name} = {"[" * (name in LISTS)}"{quoted}"{"]" * (name in LISTS)}\n'.encode())
