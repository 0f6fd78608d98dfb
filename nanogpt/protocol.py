"""The judge's protocol: how it asks a process of the candidate's code, through two pipes.

docs/formats.md describes it for whoever writes an answers.py of their own. The process may be hostile: so
`Answerer` reads exactly as many bytes as it asked for, with a deadline, and says nothing of what they were.
"""

from __future__ import annotations

import os
import select
import struct
import time

VERSION = 1
CLAIMS, PROOFS = 0, 1
"""The kinds of questions: log-probabilities of all tokens of whole rows, or whole distributions of tokens
that are not shown. A process gets questions of one kind only."""
HEADER = struct.Struct("<4i")
"""The judge's first words: version, kind, tokens a row T, tokens of vocabulary V."""
READY = struct.Struct("<i")
"""The process's first words, when it has loaded the model: how many rows B each question shall have."""
MOST_ROWS = 1024

START_S = 90.0
"""Seconds in which a process must have loaded its model. For the witness they begin with the judge's wish for
proofs, and the claimant's end is in them."""
SILENCE_S = 60.0
"""Seconds that an answer may take. A usual one takes some hundredths."""

NOT_LOADED = (
    "the saved model could not be loaded and tried: train.py must be importable without training, and the "
    "model must take tokens (B, T) alone and return logits (B, T, V)"
)
TOO_MUCH = "its process answered more than it was asked"


class Failed(Exception):
    """A process did not answer as it must. The message is one sentence, and holds nothing that it sent: it
    has seen held-out text, and agents read the sentence."""


class Answerer:
    """The judge's side of the two pipes to a process of the candidate's code."""

    def __init__(self, questions: int, answers: int) -> None:
        """`questions` is the descriptor that questions are written to; answers are read from `answers`."""
        self._questions, self._answers = questions, answers
        for descriptor in (questions, answers):
            os.set_blocking(descriptor, False)

    def start(self, kind: int, sequence: int, vocab_size: int) -> int:
        """Wait until the process is ready; return how many rows it wants in a question. Raises `Failed`."""
        late = f"the saved model was not loaded and tried within {START_S:.0f} s"
        said = self._exchange(
            HEADER.pack(VERSION, kind, sequence, vocab_size), READY.size, START_S, NOT_LOADED, late
        )
        (rows,) = READY.unpack(said)
        if not 1 <= rows <= MOST_ROWS:
            raise Failed("its process does not keep the judge's protocol (docs/formats.md)")
        return int(rows)

    def ask(self, question: bytes, size: int) -> bytes:
        """Return the answer to a question, `size` bytes. Raises `Failed`."""
        died = "its process ended while the model was measured"
        late = f"the model gave no answer for {SILENCE_S:.0f} s while it was measured"
        return self._exchange(question, size, SILENCE_S, died, late)

    def end(self) -> None:
        """End the process by closing its questions. Raises `Failed` if it says more than it was asked."""
        os.close(self._questions)
        if not select.select([self._answers], [], [], SILENCE_S)[0]:
            raise Failed("its process did not end after the last question")
        if os.read(self._answers, 1):
            raise Failed(TOO_MUCH)
        os.close(self._answers)

    def _exchange(self, question: bytes, size: int, seconds: float, died: str, late: str) -> bytes:
        """Write a question and read its answer within so many seconds; else raise `died` or `late`."""
        deadline = time.monotonic() + seconds
        answer = bytearray(size)
        to_write, to_read = memoryview(question), memoryview(answer)
        while to_write or to_read:
            if (left := deadline - time.monotonic()) <= 0:
                raise Failed(late)
            wanted = [self._questions] if to_write else []
            readable, writable, _ = select.select([self._answers], wanted, [], left)
            if readable:
                # Nobody can answer before the question is whole: then a byte tells a lie from an end.
                count = os.readv(self._answers, [bytearray(1) if to_write else to_read])
                if not count:
                    raise Failed(died)
                if to_write:
                    raise Failed(TOO_MUCH)
                to_read = to_read[count:]
            elif writable:
                try:
                    to_write = to_write[os.write(self._questions, to_write) :]
                except BrokenPipeError:
                    raise Failed(died) from None
        return bytes(answer)
