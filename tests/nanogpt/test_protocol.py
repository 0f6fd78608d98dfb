"""protocol.py: whatever a process does to its pipes, the judge gets its answer or one sentence, in time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import protocol
import pytest
from protocol import CLAIMS, NOT_LOADED, TOO_MUCH, Answerer, Failed

SECRET = "import-os-the-text"
HEAD = """
import os, struct, sys, time
def read(n):
    data = b""
    while len(data) < n:
        part = os.read(0, n - len(data))
        if not part:
            sys.exit()
        data += part
    return data
def say(data):
    while data:
        data = data[os.write(1, data):]
ready = struct.pack("<i", 4)
header = struct.unpack("<4i", read(16))
"""
"""The beginning of a process that speaks the protocol by hand."""

Start = Callable[[str], Answerer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process with this program; the judge's side of its pipes comes back."""
    started = []

    def with_program(program: str) -> Answerer:
        questions, answers = os.pipe(), os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + program], stdin=questions[0], stdout=answers[1]
        )
        started.append(process)
        os.close(questions[0])
        os.close(answers[1])
        return Answerer(questions[1], answers[0])

    yield with_program
    for process in started:
        process.kill()
        process.wait()


def test_questions_and_answers_of_any_size_pass(start: Start) -> None:
    big = 3 * 2**20
    one = start(f"""
say(struct.pack("<i", header[3]))
while True:
    say(read({big})[::-1])
""")
    assert one.start(CLAIMS, 7, 11) == 11
    for byte in (b"a", b"b"):
        assert one.ask(byte * (big - 1) + b"c", big) == b"c" + byte * (big - 1)
    one.end()


HOSTILE = {
    "ends at once": ("", NOT_LOADED),
    "crashes before it has loaded": ("raise ValueError('x')", NOT_LOADED),
    "never gets ready": ("time.sleep(60)", "was not loaded and tried within"),
    "wants no rows": ("say(struct.pack('<i', 0)); time.sleep(60)", "not keep the judge's protocol"),
    "wants many rows": ("say(struct.pack('<i', 10**9)); time.sleep(60)", "not keep the judge's protocol"),
    "ends when it is asked": ("say(ready); read(8)", "ended while the model was measured"),
    "answers too little": ("say(ready); read(8); say(b'x' * 15)", "ended while the model was measured"),
    "is silent": ("say(ready); read(8); say(b'x' * 15); time.sleep(60)", "gave no answer for"),
    "trickles": ("say(ready); read(8)\nwhile True: say(b'x'); time.sleep(0.15)", "gave no answer for"),
    "answers before it is asked": ("say(ready + b'x' * 16); time.sleep(60)", TOO_MUCH),
    "answers too much": ("say(ready); read(8); say(b'x' * 17); read(9)", TOO_MUCH),
    "says something at its end": ("say(ready); read(8); say(b'x' * 16); os.read(0, 1); say(b'!')", TOO_MUCH),
    "does not end": ("say(ready); read(8); say(b'x' * 16); time.sleep(60)", "did not end"),
    "stops reading": ("os.close(0); say(ready); time.sleep(60)", "ended while the model was measured"),
    "sends text": (f"say(ready); read(8); say(b'{SECRET}'); time.sleep(60)", TOO_MUCH),
}  # fmt: skip


def conversation(one: Answerer) -> None:
    assert one.start(CLAIMS, 256, 4096) == 4
    one.ask(b"question", 16)
    one.end()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_process_is_one_sentence(name: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    program, reason = HOSTILE[name]
    slow = any(word in name for word in ("never", "silent", "trickles", "not end", "before"))
    monkeypatch.setattr(protocol, "SILENCE_S", 1.0 if slow else 20.0)
    monkeypatch.setattr(protocol, "START_S", 1.0 if name == "never gets ready" else 20.0)
    one = start(program)
    with pytest.raises(Failed) as raised:
        conversation(one)
    assert reason in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_question_that_nobody_reads_does_not_block(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SILENCE_S", 0.5)
    one = start("say(ready); time.sleep(60)")
    one.start(CLAIMS, 256, 4096)
    with pytest.raises(Failed, match="gave no answer"):
        one.ask(b"x" * 2**22, 16)  # far more than a pipe holds


def test_a_process_that_was_never_started_is_one_sentence() -> None:
    questions, answers = os.pipe(), os.pipe()
    for end in (questions[0], answers[1]):
        os.close(end)
    with pytest.raises(Failed, match="could not be loaded"):
        Answerer(questions[1], answers[0]).start(CLAIMS, 256, 4096)
    for end in (questions[1], answers[0]):
        with suppress(OSError):
            os.close(end)
