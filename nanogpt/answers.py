"""Answers the judge's questions about a saved model, in a process of its own: `python answers.py MODEL`.

Questions come from standard input, answers go to standard output; docs/formats.md has the protocol. This
process runs the candidate's code, behind a fence and without training data, and the judge believes none of
it. It runs twice: first it claims the log-probability of each token in whole rows. Then a second process,
which has seen none of that, proves some of these claims on rows whose end was replaced.

Agents may read this file but never change it. Shapes: B rows, T tokens a row, V tokens of vocabulary.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

import torch
from machine import device
from protocol import CLAIMS, HEADER, READY, VERSION
from saving import load
from torch import Tensor, nn
from torch.nn import functional as F

ROWS_CPU, ROWS_GPU = 4, 32
"""Rows at once. On a CPU few rows are fastest: their logits stay in its cache."""


def logits(model: nn.Module, tokens: Tensor, vocab_size: int) -> Tensor:
    """Return the model's logits (B, T, V) for tokens (B, T). Raises `ValueError` if they are none."""
    found: Tensor = model(tokens)
    if not isinstance(found, Tensor) or found.shape != (*tokens.shape, vocab_size):
        raise ValueError(
            f"the model must return logits {(*tokens.shape, vocab_size)} for tokens {tuple(tokens.shape)}"
        )
    return found


def claims(model: nn.Module, rows: Tensor, vocab_size: int) -> Tensor:
    """Return the log-probability (B, T) of each token of some rows (B, T + 1) but the first, in float32.

    A model may have a method `log_probabilities(tokens, targets)` that gives these (B, T), which is faster
    than all logits. It is believed no more than they are: logits have to prove what it claims. Anything else
    of that name is left alone.
    """
    tokens, targets = rows[:, :-1], rows[:, 1:]
    said = _quickly(model, tokens, targets)
    if said is not None:
        return said.float()
    found = logits(model, tokens, vocab_size)
    # Row by row, because a copy of all logits in float32 may not fit in memory.
    return torch.stack(
        [-F.cross_entropy(z.float(), t, reduction="none") for z, t in zip(found, targets, strict=True)]
    )


def _quickly(model: nn.Module, tokens: Tensor, targets: Tensor) -> Tensor | None:
    """Return what the model's own `log_probabilities` gives (B, T); None where that is something else."""
    quick = getattr(model, "log_probabilities", None)
    if not callable(quick):
        return None
    try:
        said = quick(
            tokens.clone(), targets.clone()
        )  # copies: another method may write into what it is given
    except torch.OutOfMemoryError:
        raise
    except Exception:  # it is the candidate's own, made for something else
        return None
    return said if isinstance(said, Tensor) and said.shape == targets.shape else None


def proofs(model: nn.Module, tokens: Tensor, places: Tensor, vocab_size: int) -> Tensor:
    """Return the logits (B, V) at one place of each row of tokens (B, T), in float32."""
    found = logits(model, tokens, vocab_size)
    return found[torch.arange(len(tokens), device=tokens.device), places].float()


def streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of questions and answers, out of the way of code that prints or reads.

    From now on, what is printed goes to standard error, and standard input is empty.
    """
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return questions, answers


def fitting(model: nn.Module, sequence: int, vocab_size: int, where: torch.device, kind: int = CLAIMS) -> int:
    """Try the model on rows of zeros, before it has seen any text; return how many rows fit in memory."""
    rows = ROWS_CPU if where.type == "cpu" else ROWS_GPU
    while True:
        tokens = torch.zeros(rows, sequence + 1, dtype=torch.long, device=where)
        try:
            if kind == CLAIMS:
                claims(model, tokens, vocab_size)
            else:
                proofs(model, tokens[:, :-1], tokens[:, 0], vocab_size)
            return rows
        except torch.OutOfMemoryError:
            if rows == 1:
                raise
        rows //= 2
        torch.cuda.empty_cache()


def serve(model: nn.Module, where: torch.device, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions."""
    version, kind, T, V = HEADER.unpack(questions.read(HEADER.size))
    if version != VERSION:
        sys.exit(f"this program speaks version {VERSION} of the judge's protocol, not {version}")
    with torch.inference_mode():
        B = fitting(model, T, V, where, kind)
        answers.write(READY.pack(B))
        answers.flush()
        size = B * (T + 1)  # numbers in a question: T + 1 tokens a row, or T tokens and a place
        while question := questions.read(4 * size):
            numbers = torch.frombuffer(bytearray(question), dtype=torch.int32).to(where).long()
            if kind == CLAIMS:
                answer = claims(model, numbers.view(B, T + 1), V)
            else:
                answer = proofs(model, numbers[: B * T].view(B, T), numbers[B * T :], V)
            answers.write(answer.cpu().numpy().tobytes())
            answers.flush()


def main() -> None:
    """Load the model that the command line names, and answer what is asked about it."""
    questions, answers = streams()
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # to compile takes longer than to answer, and rounds differently
    where = device()
    serve(load(Path(sys.argv[1]), where), where, questions, answers)
    sys.stdout.flush()
    os._exit(0)  # at once: torch takes a while to tidy up


if __name__ == "__main__":
    main()
