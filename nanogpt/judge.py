"""The judge: measures a saved model, which it never loads, by asking two processes of the candidate's code.

    judge.py --claimant Q A --witness Q A --out FOLDER [--reference CLAIMS.npy]

Q and A are descriptors of pipes: questions to a process go to Q, its answers come from A (protocol.py). The
witness starts when the claimant, and all that it has started, is dead. FOLDER gets judged.json, which is
`Judged`, and, if the model is believed, claims.npy: the log-probabilities of all held-out tokens, those of
`val` first. The reference is that file of the incumbent: claims that beat it most are proved first.

1. The claimant gets all rows of the held-out text in a secret order and claims the log-probability of each
   token. This gives val_bpb, if it is true.
2. The judge draws places. The witness gets their rows with random tokens from the place on and proves what
   was claimed: its distribution must give the token that it cannot see the probability that was claimed.

This process alone reads held-out text. It imports neither torch nor train.py, and loads no model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import secrets
import sys
import time
from pathlib import Path

import numpy as np
import proofs
from corpus import BadData
from held_out import Array, HeldOut, held_out_folder
from proofs import Places
from protocol import CLAIMS, PROOFS, Answerer, Failed

from prepare import prepare


class Refused(Exception):
    """The model's number is not believed; the message is one sentence for whoever made the model."""


@dataclasses.dataclass
class Judged:
    """What the judge found: either a number, or why it refused to believe one, or why there is none."""

    val_bpb: float | None = None
    hidden_bpb: float | None = None
    data: str = ""
    """Identity of the data."""
    about: str = ""
    """The data in words: its name, the size of its vocabulary, the tokens of a row."""
    refused: str = ""
    failed: str = ""
    shown: int = 0
    """Rows of held-out text that the candidate's processes were shown. After 0 their logs hold none of it."""
    probes: int = 0
    """Claims that were proved."""
    worst: float = 0.0
    """By how much a claim was better than its proof at most, in nats."""
    bias: float = 0.0
    """The mean of that over places drawn uniformly."""
    claim_s: float = 0.0
    """Wall-clock seconds of the claimant, with its start; `proof_s` are the witness's."""
    proof_s: float = 0.0


class Judge:
    """Judges one model."""

    def __init__(self, held_out: HeldOut, reference: Array | None) -> None:
        self._held_out, self._reference = held_out, reference
        self.found = Judged(data=held_out.identity, about=held_out.about)
        self.claims: Array = np.zeros(held_out.rows.shape, np.float32)

    def judge(self, claimant: Answerer, witness: Answerer) -> None:
        """Fill `found` and `claims`."""
        try:
            started = time.monotonic()
            self._hear_claims(claimant)
            self.found.claim_s = time.monotonic() - started
            started = time.monotonic()
            self._check(witness)
            self.found.proof_s = time.monotonic() - started
            self.found.val_bpb, self.found.hidden_bpb = self._held_out.bits_per_byte(self.claims)
        except Failed as error:
            self.found.failed = str(error)
        except Refused as error:
            self.found.refused = str(error)

    # --- claims ---

    def _hear_claims(self, claimant: Answerer) -> None:
        """Ask for the log-probability of each token. Raises `Failed` or `Refused`."""
        held_out = self._held_out
        chance = secret()
        count, T = held_out.rows.shape
        size = claimant.start(CLAIMS, T, held_out.vocab_size)
        order = chance.permutation(count)
        for start in range(0, count, size):
            at = order[start : start + size]
            rows = self._padded(held_out.with_bos(held_out.rows[at]), size, chance)
            self.found.shown += len(at)
            answer = claimant.ask(rows.astype("<i4").tobytes(), size * T * 4)
            self.claims[at] = np.frombuffer(answer, "<f4").reshape(size, T)[: len(at)]
        claimant.end()
        self.claims[~held_out.counted] = 0
        counted = self.claims[held_out.counted]
        if not np.isfinite(counted).all():
            raise Failed("the model's logits are not finite, or give a token the probability 0")
        if counted.max() > proofs.EXACT:
            raise Refused("the model gives a token a probability above 1")

    # --- proofs ---

    def _check(self, witness: Answerer) -> None:
        """Let some claims be proved; more of them, the more claims and proofs differ by rounding."""
        held_out = self._held_out
        gain = proofs.gains(self.claims, self._reference, held_out.rows, held_out.counted)
        chance = secret()
        size = witness.start(PROOFS, held_out.sequence, held_out.vocab_size)
        places, better = proofs.examine(
            gain, held_out.counted, self._reference is not None, chance,
            lambda places: self._prove(places, size, witness, chance),
        )  # fmt: skip
        witness.end()
        self.found.probes = len(better)
        self.found.worst = float(np.clip(better.max(), -99, 99))  # JSON has no infinity
        self.found.bias = float(np.clip(better[places.uniform].mean(), -99, 99))
        if why := proofs.objection(better, places.uniform):
            raise Refused(why)

    def _prove(self, places: Places, size: int, witness: Answerer, chance: np.random.Generator) -> Array:
        """Return by how much each claim is better than its proof, (n,), in nats. Raises `Failed`."""
        held_out, found = self._held_out, list[Array]()
        V = held_out.vocab_size
        for start in range(0, len(places.rows), size):
            part = places.some(slice(start, start + size))
            tokens = held_out.rows[part.rows]
            hidden = np.arange(held_out.sequence) >= part.columns[:, None]
            shown = np.where(hidden, self._random(tokens.shape, chance), tokens)
            rows = self._padded(held_out.with_bos(shown)[:, :-1], size, chance)
            columns = np.pad(part.columns, (0, size - len(part.columns)))
            self.found.shown += len(part.rows)
            question = rows.astype("<i4").tobytes() + columns.astype("<i4").tobytes()
            logits = np.frombuffer(witness.ask(question, size * V * 4), "<f4").reshape(size, V)
            at = np.arange(len(part.rows))
            proved = proofs.log_probabilities(logits[at], tokens[at, part.columns])
            if np.isnan(proved).any():
                raise Failed("the model's logits are not finite")
            found.append(self.claims[part.rows, part.columns] - proved)
        return np.concatenate(found)

    # --- rows ---

    def _padded(self, rows: Array, size: int, chance: np.random.Generator) -> Array:
        """Return rows with rows of random tokens after them: so all questions have one shape."""
        return np.concatenate([rows, self._random((size - len(rows), rows.shape[1]), chance)])

    def _random(self, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
        """Return random tokens, none of them BOS."""
        drawn = chance.integers(self._held_out.vocab_size - 1, size=shape, dtype=np.int32)
        return drawn + (drawn >= self._held_out.bos)


def secret() -> np.random.Generator:
    """Return a source of chance that nobody can foresee, not even from what an earlier one gave."""
    return np.random.default_rng(secrets.randbits(256))


def read_reference(path: Path | None, shape: tuple[int, ...]) -> Array | None:
    """Return the incumbent's claims; None where there are none, or none of these data."""
    if path is None or not path.exists():
        return None
    claims: Array = np.load(path, allow_pickle=False)
    return claims.astype(np.float32) if claims.shape == shape else None


def write(judge: Judge, folder: Path) -> None:
    """Write claims.npy, if they are believed, and then judged.json; each is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    if judge.found.val_bpb is not None:
        draft = folder / "claims.draft.npy"
        np.save(draft, np.clip(judge.claims, -6e4, 0).astype(np.float16), allow_pickle=False)
        draft.replace(folder / "claims.npy")
    draft = folder / "judged.json.draft"
    draft.write_text(json.dumps(dataclasses.asdict(judge.found)))
    draft.replace(folder / "judged.json")


def main() -> None:
    """Judge the model that the processes at the other ends of the pipes have loaded."""
    parser = argparse.ArgumentParser(description="Measure a saved model.")
    for name in ("--claimant", "--witness"):
        parser.add_argument(name, nargs=2, type=int, required=True, metavar=("QUESTIONS", "ANSWERS"))
    parser.add_argument("--out", type=Path, required=True, help="folder for judged.json and claims.npy")
    parser.add_argument("--reference", type=Path, help="claims.npy of the incumbent")
    options = parser.parse_args()
    held_out = HeldOut(held_out_folder(prepare()))
    judge = Judge(held_out, read_reference(options.reference, held_out.rows.shape))
    judge.judge(Answerer(*options.claimant), Answerer(*options.witness))
    write(judge, options.out)


if __name__ == "__main__":
    try:
        main()
    except BadData as error:
        sys.exit(f"judge.py: {error}")
