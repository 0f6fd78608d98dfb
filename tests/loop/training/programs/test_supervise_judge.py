"""How a supervisor lets a saved model be judged: who runs when, who sees what, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from loop.records.training_folder import Answerer, Exit, Fence, Judge, Spec, TrainingFolder
from loop.training.programs import group
from loop.training.supervisor import order
from tests.loop.judged import ANSWERS, JUDGE, TRAINER
from tests.loop.training.programs.supervising import PROGRAM, has_groups, until

STAYS = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
print("left one behind", file=sys.stderr)
"""
ALONE = """
import os, sys
mine = os.environ["ROLE"]
others = 0
for entry in os.listdir("/proc"):
    if entry.isdigit() and int(entry) != os.getpid():
        try:
            variables = open(f"/proc/{entry}/environ", "rb").read()
        except OSError:
            continue
        others += b"MARK=" + os.environ["MARK"].encode() in variables and b"ROLE=" in variables
open(os.environ["SEEN"] + mine, "w").write(str(others))
"""


class Judged:
    """One training with a judge, in a temporary folder under a supervisor of its own."""

    def __init__(self, folder: Path, *, trainer: str, answers: str, judge: str, timeout_s: float) -> None:
        self.folder, self.files = folder, TrainingFolder(folder / "run")
        self.files.reset()
        frozen = folder / "frozen"
        frozen.mkdir(exist_ok=True)
        for name, code in (("train.py", trainer), ("answers.py", answers), ("judge.py", judge)):
            (frozen / name).write_text(code)
        self.spec = Spec(
            command=[sys.executable, "train.py"],
            cwd=str(frozen),
            env={"AUTORESEARCH_MODEL_FILE": str(self.files.model), "PYTHONUNBUFFERED": "1"},
            log=str(self.files.log),
            exit=str(self.files.exit),
            supervisor=str(self.files.supervisor),
            timeout_s=30,
            commit="c",
            trained=str(self.files.trained),
            judge=Judge(
                command=[sys.executable, "judge.py"],
                words=["--out", str(self.files.judge)],
                env={},
                cwd=str(frozen),
                answers=[sys.executable, "answers.py", str(self.files.model)],
                answerers=[
                    Answerer({"ROLE": role, "MARK": str(folder), "SEEN": str(folder / "seen-")}, Fence())
                    for role in ("claimant", "witness")
                ],
                model=str(self.files.model),
                log=str(self.files.judge_log),
                timeout_s=timeout_s,
            ),
        )
        self.files.write_spec(self.spec)

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(order(self.spec))
        process.stdin.close()
        return process

    def run(self) -> Exit:
        assert self.start().wait(60) == 0
        return msgspec.json.decode(self.files.exit.read_bytes(), type=Exit)


Make = Callable[..., Judged]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(
        *, trainer: str = TRAINER, answers: str = ANSWERS, judge: str = JUDGE, timeout_s: float = 30
    ) -> Judged:
        return Judged(tmp_path, trainer=trainer, answers=answers, judge=judge, timeout_s=timeout_s)

    return make


def test_the_judge_measures_what_two_processes_of_the_candidate_agree_on(make: Make) -> None:
    found = make()
    ended = found.run()
    judged = found.files.read_judged()
    assert (ended.outcome, ended.reason, ended.judge_failed) == ("finished", "", False)
    assert judged
    assert (judged.val_bpb, judged.hidden_bpb, judged.refused, judged.failed) == (1.0, 7.654321, "", "")
    assert 0 < ended.trainer_seconds < ended.ended - ended.started
    assert 0 < ended.judge_seconds < 30
    assert ended.cpu_seconds > 0
    assert "phase: evaluating" in found.files.end_of_log()


def test_the_witness_starts_when_the_claimant_and_all_that_it_left_are_dead(make: Make) -> None:
    found = make(answers=ALONE + STAYS + ANSWERS)
    assert found.run().outcome == "finished"
    assert found.files.read_judged()
    assert (found.folder / "seen-claimant").read_text() == "0"
    assert (found.folder / "seen-witness").read_text() == "0"
    assert not [p for p in psutil.process_iter(["environ"]) if str(found.folder) in str(p.info["environ"])]


def test_a_process_that_answers_differently_when_it_is_asked_again_is_refused(make: Make) -> None:
    lies = ANSWERS.replace("print(model", "print('0.1' if os.environ['ROLE'] == 'claimant' else model")
    found = make(answers="import os\n" + lies)
    assert found.run().outcome == "finished"
    judged = found.files.read_judged()
    assert judged
    assert (judged.val_bpb, judged.refused) == (None, "its claims are not what it can prove")


@pytest.mark.parametrize(
    "answers", ["raise SystemExit(1)", "import os; os.abort()", "import sys; sys.stdout.close()"]
)
def test_a_process_that_does_not_answer_ends_the_judgement(make: Make, answers: str) -> None:
    found = make(answers=answers)
    assert found.run().outcome == "finished"
    judged = found.files.read_judged()
    assert judged
    assert judged.failed == "it did not answer"


def test_what_the_candidate_prints_while_it_is_asked_goes_where_no_agent_reads(make: Make) -> None:
    found = make(answers="import sys\nprint('held-out text', file=sys.stderr)\n" + ANSWERS)
    found.run()
    assert found.files.judge_log.read_text() == "held-out text\n" * 2
    assert "held-out" not in found.files.end_of_log()


@pytest.mark.parametrize(
    "instead",
    ["pass", "os.mkfifo(path)", "os.symlink('/dev/zero', path)", "os.mkdir(path)", "open(path, 'w').close()"],
)
def test_without_a_model_nobody_is_asked(make: Make, instead: str) -> None:
    found = make(trainer=f"import os\npath = os.environ['AUTORESEARCH_MODEL_FILE']\n{instead}\n")
    ended = found.run()
    assert (ended.outcome, ended.judge_failed) == ("crashed", False)
    assert ended.reason.startswith("it saved no model")


@pytest.mark.parametrize("judge", ["raise SystemExit(3)", "import os; os.abort()"])
def test_a_judge_that_breaks_says_nothing_about_the_model(make: Make, judge: str) -> None:
    ended = make(judge=judge).run()
    assert ended.judge_failed
    assert ended.reason.startswith("the judge failed")


def test_a_judgement_takes_no_longer_than_it_may(make: Make) -> None:
    ended = make(answers="import time; time.sleep(600)", timeout_s=0.7).run()
    assert (ended.outcome, ended.reason) == ("timeout", "measuring its model took longer than 0.7 s")
    assert ended.judge_seconds < 10


def test_stopping_ends_judge_and_answerers(make: Make) -> None:
    found = make(answers="import sys, time; print('asked', file=sys.stderr, flush=True); time.sleep(600)")
    process = found.start()
    until(lambda: found.files.judge_log.exists() and "asked" in found.files.judge_log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert json.loads(found.files.exit.read_text())["outcome"] == "stopped"
    assert not [p for p in psutil.process_iter(["environ"]) if str(found.folder) in str(p.info["environ"])]


def test_when_the_supervisor_is_killed_meanwhile_the_next_one_judges_without_training_again(
    make: Make, tmp_path: Path
) -> None:
    once = f"open({str(tmp_path / 'trained')!r}, 'a').write('x')\n" + TRAINER
    slow = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n" + ANSWERS
    found = make(trainer=once, answers=slow)
    process = found.start()
    until(found.files.judge_log.exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (tmp_path / "frozen" / "go").touch()
    assert found.files.has_trained("c")
    assert not found.files.has_trained("another")
    found.files.reset(keep_trained=True)
    found.files.write_spec(found.spec)
    assert found.run().outcome == "finished"
    assert found.files.read_judged()
    assert (tmp_path / "trained").read_text() == "x"


@pytest.mark.skipif(not has_groups(), reason="this user may not make a control group here")
def test_trainer_claimant_and_witness_are_in_groups_of_their_own(make: Make, tmp_path: Path) -> None:
    writes = "import os; open({}, 'w').write(open('/proc/self/cgroup').read())\n".format
    says = writes("os.environ['SEEN'] + os.environ['ROLE']")
    trains = writes(repr(str(tmp_path / "seen-trainer")))
    assert make(trainer=trains + TRAINER, answers=says + ANSWERS).run().outcome == "finished"
    groups = [(tmp_path / f"seen-{role}").read_text() for role in ("trainer", "claimant", "witness")]
    assert len(set(groups)) == 3
    assert all(f"/{group.PREFIX}." in found for found in groups)
