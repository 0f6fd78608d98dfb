"""`model export` and `sample`: what was kept can be taken away and used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loop.agents.base import Proposal, ResearchContext
from loop.cli import model
from loop.cli.__main__ import main
from loop.errors import UsageError
from loop.paths import RunPaths
from tests.conftest import TRAINER, git, make_repository
from tests.loop.scripted import Bench, ScriptedAgent

SAVING = (
    TRAINER
    + """
from pathlib import Path
path = Path(os.environ["AUTORESEARCH_MODEL_FILE"])
path.write_text(f"X = {X}")
path.with_name("tokenizer.json").write_text("{}")
"""
)
SAMPLE = """\
import sys
print("---")
print(open(sys.argv[-2]).read(), *sys.argv[1:-2], sys.argv[-1])
"""
SETTINGS = 'budget_s = 0.1\nrule = "improved"\nbaseline_runs = 1\nkeep_models = 0\n'
COMMAND = str(Path(sys.executable).with_name("autoresearch-tui"))


def better_then_worse(context: ResearchContext) -> Proposal:
    """Experiment 2 is kept, experiment 3 is not."""
    x = 1.5 if context.n == 2 else 5.0
    return Proposal(f"X to {x}", re.sub(r"X = [\d.]+ ", f"X = {x} ", context.source))


async def night(root: Path, trainer: str = SAVING, count: int = 3) -> Path:
    """A run of three experiments; keeps are 1 and 2, and the model of 2 alone stays."""
    make_repository(root, trainer, SETTINGS)
    (root / "sample.py").write_text(SAMPLE)
    (root / "docs").mkdir()
    (root / "docs/README.md").write_text("theirs")
    git(root, "add", ".")
    git(root, "commit", "-qm", "sample.py")
    await Bench(root, ScriptedAgent(better_then_worse), max_experiments=count).run()
    return root


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = await night(tmp_path / "repo")
    monkeypatch.chdir(root)
    return root


def call(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as from a shell: it has an event loop of its own."""
    return subprocess.run([COMMAND, *words], cwd=root, capture_output=True, text=True, timeout=60)


def refused(root: Path, *words: str) -> str:
    """The sentence with which a command is refused."""
    done = call(root, *words)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("autoresearch-tui: ").strip()


async def test_an_export_holds_the_incumbents_model_its_code_and_what_it_is(
    here: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = call(here, "model", "export", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    assert (out / "model.pt").read_text() == "X = 1.5"
    assert (out / "tokenizer.json").read_text() == "{}"
    assert "X = 1.5 " in (out / "code/train.py").read_text()
    assert (out / "code/docs/README.md").read_text() == "theirs"
    readme = (out / "README.md").read_text()
    assert readme.startswith("# Model of experiment 2, run t\n\nX to 1.5\n")
    assert "- val_bpb: 2.250000 (training 1, seed 1337, 0.1 s)" in readme
    assert git(here, "rev-parse", "autoresearch/t") in readme
    assert 'python code/sample.py model.pt "' in readme
    assert git(here, "status", "--porcelain") == "?? results.tsv"


async def test_a_sample_comes_from_the_incumbent_or_from_the_experiment_that_is_named(here: Path) -> None:
    done = call(here, "sample", "a text", "--tokens", "7", "--temperature", "0", "--seed", "3")
    assert done.stdout == "X = 1.5 --tokens 7 --temperature 0.0 --seed 3 -- a text\n"
    assert call(here, "sample", "2", "a text").stdout.startswith("X = 1.5 --tokens 100 ")


async def test_what_cannot_be_had_is_one_sentence(here: Path, tmp_path: Path) -> None:
    assert refused(here, "sample", "9", "x") == "no experiment 9 in run t: it has 3"
    for n in ("1", "3"):
        assert refused(here, "sample", n, "x").startswith(f"the model of experiment {n} is not kept: only ")
    assert refused(here, "sample", "a", "b") == (
        "expected [N] TEXT: the number of an experiment, then one TEXT"
    )
    assert refused(here, "sample", "x", "--tokens", "0") == "--tokens must be 1 to 10,000"
    assert refused(here, "sample", "x", "--temperature", "nan") == "--temperature must be 0 or more"
    assert refused(here, "model", "export", str(here)) == (
        f"{here} is there and not empty: name a new folder"
    )
    assert refused(here, "model", "export", str(here / "train.py/out")).startswith("cannot use ")
    next((here / ".autoresearch").rglob("model.pt")).unlink()
    assert refused(here, "sample", "x").startswith("the model of experiment 2 is not kept: only ")


async def test_a_trainer_that_saves_no_model_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = await night(tmp_path / "repo", TRAINER, count=1)
    for words in (["sample", "x"], ["model", "export", str(tmp_path / "out")]):
        assert refused(root, *words).startswith("no training of experiment 1 saved a model: ")
    assert not (tmp_path / "out").exists()


async def test_status_and_report_say_where_the_model_is(here: Path) -> None:
    path = RunPaths(here, "t").training(2, 1) / "out/model.pt"
    assert f"its model is {path}" in call(here, "status").stdout
    assert call(here, "report").returncode == 0
    assert f"The model of #2 is {path};" in (here / ".autoresearch/t/report/report.html").read_text()


def test_a_run_without_an_incumbent_has_no_model(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    Bench(repository, ScriptedAgent()).close()
    assert main(["sample", "x"]) == 2
    assert "there is no incumbent yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"), [(["x"], (None, "x")), (["5"], (None, "5")), (["5", "x y"], (5, "x y"))]
)
def test_a_number_may_stand_before_the_text(words: list[str], found: tuple[int | None, str]) -> None:
    assert model.numbered(words, "TEXT") == found


@pytest.mark.parametrize("words", [[], ["x", "5"], ["-5", "x"], ["1", "2", "3"]])
def test_other_words_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"expected \[N\] TEXT"):
        model.numbered(words, "TEXT")


@pytest.mark.slow
def test_the_real_trainers_model_is_sampled_exported_and_sampled_again(tmp_path: Path) -> None:
    root, out = tmp_path / "repo", tmp_path / "out"
    assert main(["init", str(root)]) == 0
    environment = {"AUTORESEARCH_MAX_STEPS": "5", "OMP_NUM_THREADS": "1"}

    def real(*words: str) -> str:
        done = subprocess.run(
            words, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    real(COMMAND, "run", "--headless", "--agent", "search", "--max-experiments", "1", "--baseline-runs", "1")
    words = ("def integrate(", "--tokens", "12", "--temperature", "0")
    first = real(COMMAND, "sample", *words)
    assert len(first.strip()) > 8
    assert real(COMMAND, "model", "export", str(out)) == f"{out}\n"
    assert {path.name for path in out.iterdir()} == {
        "README.md", "code", "meta.json", "model.pt", "tokenizer.json",
    }  # fmt: skip
    assert sorted(path.name for path in (out / "code").iterdir()) == sorted(
        Path(name).name for name in git(root, "ls-files", "nanogpt").split()
    )
    script = (sys.executable, str(out / "code/sample.py"), str(out / "model.pt"))
    assert real(*script, *words).partition("---\n")[2] == first
