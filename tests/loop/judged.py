"""A tiny repository with a judge: a trainer that saves a number, and programs that ask for it and measure it.

They keep the same contract as nanogpt's and need the standard library alone, so that a test of the loop does
not have to train a network.
"""

from __future__ import annotations

from pathlib import Path

from tests.conftest import git, make_repository

TRAINER = '''\
"""Saves a number as its model."""
import os

X = 3.0
with open(os.environ["AUTORESEARCH_MODEL_FILE"], "w") as file:
    file.write(repr(X))
print("phase: training\\nstep 00000 (100.0%) | loss: 1.0\\n---\\npeak_vram_mb: 1024")
'''
ANSWERS = '''\
"""Answers each question with the number in the file."""
import sys

model = open(sys.argv[1]).read()
for question in sys.stdin:
    print(model, flush=True)
'''
JUDGE = '''\
"""Asks the claimant for the number and lets the witness prove it."""
import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--claimant", "--witness"):
    parser.add_argument(name, type=int, nargs=2)
parser.add_argument("--out", type=Path)
parser.add_argument("--reference", type=Path)
options = parser.parse_args()


def ask(fds):
    with open(fds[1]) as answers:
        try:
            with open(fds[0], "w") as questions:
                questions.write("?\\n")
        except BrokenPipeError:
            return ""
        return answers.readline().strip()


claimed = ask(options.claimant)
proved = ask(options.witness)
report = {"data": "d", "probes": 1}
if not claimed or not proved:
    report["failed"] = "it did not answer"
elif claimed != proved:
    report["refused"] = "its claims are not what it can prove"
else:
    report |= {"val_bpb": float(claimed) / 3, "hidden_bpb": HIDDEN}
report["reference"] = str(options.reference)
(options.out / "claims.npy").write_text(claimed)
(options.out / "judged.json").write_text(json.dumps(report))
'''.replace("HIDDEN", "7.654321")
SETTINGS = """\
judge_command = ["{python}", "judge.py"]
answers_command = ["{python}", "answers.py"]
budget_s = 5
baseline_runs = 1
"""


def make_judged(root: Path, trainer: str = TRAINER, answers: str = ANSWERS, judge: str = JUDGE) -> Path:
    """A research repository whose models a judge measures."""
    make_repository(root, trainer, SETTINGS)
    (root / "answers.py").write_text(answers)
    (root / "judge.py").write_text(judge)
    git(root, "add", ".")
    git(root, "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "a judge")
    return root
