"""The folder of one training: what is written there, and what of it is believed."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.records.training_folder import (
    MODEL_MOST,
    Answerer,
    Exit,
    Fence,
    Judge,
    Judged,
    Spec,
    TrainingFolder,
    read_curve,
)

ENDED = Exit("finished", "", 0, 1000.0, 1300.0)


def trained(folder: Path, ended: Exit | None = ENDED) -> TrainingFolder:
    """The folder of a training of commit `c`, as engine and supervisor leave it."""
    files = TrainingFolder(folder)
    files.reset()
    spec = Spec(["python"], "", {"A": "b"}, "", "", "", 60.0, commit="c")
    files.write_spec(spec)
    if ended:
        files.exit.write_bytes(msgspec.json.encode(ended))
    return files


# --- how it ended ---


def test_an_exit_is_read_for_the_commit_that_trained_and_for_no_other(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    assert files.read_exit("c") == ENDED
    assert files.read_exit("another") is None


def test_a_training_that_was_stopped_or_still_runs_did_not_end_by_itself(tmp_path: Path) -> None:
    assert trained(tmp_path / "t", ended=None).read_exit("c") is None
    assert trained(tmp_path / "t", ended=Exit("stopped", "by hand", -15, 0.0, 1.0)).read_exit("c") is None


@pytest.mark.parametrize("name", ["spec", "exit"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"outcome": "won"}'])
def test_a_file_that_is_torn_or_of_something_else_is_no_exit(
    tmp_path: Path, name: str, content: bytes
) -> None:
    files = trained(tmp_path / "t")
    getattr(files, name).write_bytes(content)
    assert files.read_exit("c") is None


def test_a_folder_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    files = TrainingFolder(tmp_path / "none")
    assert files.read_exit("c") is None
    assert files.read_judged() is None
    assert (files.has_judge(), files.has_trained("c"), files.read_spec()) == (False, False, None)
    assert files.end_of_log() == ""


def test_a_training_that_starts_again_finds_nothing_of_its_last_attempt(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    files.log.write_text("old")
    (files.out / "deep").mkdir()
    (files.out / "deep" / "file").write_text("old")
    (tmp_path / "elsewhere").mkdir()
    (files.folder / "link").symlink_to(tmp_path / "elsewhere")
    files.reset()
    assert sorted(path.name for path in files.folder.rglob("*")) == ["judge", "out", "run.log"]
    assert files.log.read_text() == ""
    assert (tmp_path / "elsewhere").is_dir()


def test_what_a_supervisor_is_told_survives_the_way_through_its_file(tmp_path: Path) -> None:
    spec = Spec(
        ["python", "train.py"], "/slot", {"A": "b"}, "/log", "/exit", "/supervisor", 600.0, 2.5, commit="c",
        fence=Fence(True, 6, seccomp=True, read=["/usr"], write=["/slot"], devices=["/dev/null"]),
        trained="/trained",
        judge=Judge(["judge"], ["--out"], {}, "/", ["a"], [Answerer({}, Fence())], "m", "l", 9.0),
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Spec) == spec


# --- the judge ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"val_bpb": 1.5, "hidden_bpb": 1.6, "data": "d", "more": 1}', Judged(1.5, 1.6, "d")),
        ('{"refused": "not causal"}', Judged(refused="not causal")),
        ('{"val_bpb": "1.5"}', None),
        ('{"val_bpb": NaN}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_what_the_judge_found_is_read_if_it_is_a_report(
    text: str, found: Judged | None, tmp_path: Path
) -> None:
    files = trained(tmp_path / "t")
    assert files.read_judged() is None
    files.judged.write_text(text)
    assert files.read_judged() == found


def test_what_has_trained_and_is_not_judged_keeps_its_model(tmp_path: Path) -> None:
    files = saved(tmp_path / "t")
    files.trained.write_text("{}")
    files.log.write_text("step 1")
    files.judged.write_text("half")
    assert files.has_trained("c")
    assert not files.has_trained("another")
    files.reset(keep_trained=True)
    assert files.model_bytes()
    assert files.end_of_log() == "step 1"
    assert not files.exit.exists()
    assert list(files.judge.iterdir()) == []


def test_no_environment_is_written_and_nobody_else_can_read_what_is(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    judge = Judge(["j"], [], {"A": "secret"}, "", ["a"], [Answerer({"A": "secret"}, Fence())], "m", "l", 9.0)
    spec = Spec(["python"], "/slot", {"A": "secret"}, "", "", "", 60.0, key="k", clock="cpu", judge=judge)
    files.write_spec(spec)
    assert "secret" not in files.spec.read_text()
    assert files.spec.stat().st_mode & 0o777 == 0o600
    found = files.read_spec()
    assert found is not None
    assert (found.command, found.cwd, found.key, found.clock) == (["python"], "/slot", "k", "cpu")
    assert found.judge is not None
    assert found.judge.answers == ["a"]


# --- log and curve ---


def test_only_the_end_of_a_long_log_is_read_and_odd_bytes_are_replaced(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    files.log.write_bytes(b"x" * 100 + b"end\xff")
    assert files.end_of_log(4) == "end\ufffd"
    assert len(files.end_of_log()) == 104


@given(steps=st.integers(0, 900), points=st.integers(1, 300))
def test_a_curve_is_thinned_evenly_and_keeps_its_first_point(
    tmp_path_factory: pytest.TempPathFactory, steps: int, points: int
) -> None:
    metrics = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    lines = [ev.encode(ev.Progress(1, 1, i, i / 900, float(i))) for i in range(steps)]
    metrics.write_bytes(b"\n".join(lines))
    losses = [point.loss for point in read_curve(metrics, points)]
    assert len(losses) == steps if steps < points else points <= len(losses) < 2 * points
    assert losses[:1] == [0.0] * bool(steps)
    assert len({b - a for a, b in itertools.pairwise(losses)}) <= 1


def test_progress_lines_without_a_loss_and_torn_lines_are_no_points(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    older = b'{"type":"Progress","n":1,"run":1,"step":3,"fraction":0.5,"loss":2.0}'  # of version 0.1.0
    lines = [
        ev.encode(ev.Progress(1, 1, 1, 0.25)),
        older,
        ev.encode(ev.Progress(1, 1, 4, 0.75, 1.0)),
        b'{"ty',
    ]
    metrics.write_bytes(b"\n".join(lines))
    assert read_curve(metrics) == [ev.CurvePoint(0.5, 2.0), ev.CurvePoint(0.75, 1.0)]
    assert read_curve(tmp_path / "none") == []
    assert all(math.isfinite(point.loss) for point in read_curve(metrics))


# --- the model ---


def saved(folder: Path) -> TrainingFolder:
    files = trained(folder)
    for name in ("model.pt", "tokenizer.json", "meta.json"):
        (files.out / name).write_text(name)
    return files


def test_a_model_has_a_size_and_is_copied_with_what_lies_beside_it(tmp_path: Path) -> None:
    files = saved(tmp_path / "t")
    assert files.model_bytes() == len("model.pt")
    copies = files.copy_model(tmp_path)
    assert [path.name for path in copies] == ["model.pt", "tokenizer.json", "meta.json"]
    assert [path.read_text() for path in copies] == [path.name for path in copies]


def test_a_model_alone_is_copied_alone(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    files.model.write_bytes(b"m")
    (files.out / "meta.json").symlink_to("/etc/passwd")
    assert [path.name for path in files.copy_model(tmp_path)] == ["model.pt"]
    assert not (tmp_path / "meta.json").exists()


def test_a_removed_model_is_gone_with_its_draft_and_its_tokenizer_and_the_result_stays(
    tmp_path: Path,
) -> None:
    files = saved(tmp_path / "t")
    (files.out / "model.pt.draft").write_text("half")
    (files.out / "other").write_text("{}")
    files.claims.write_text("claims")
    files.judged.write_text("{}")
    for _ in range(2):
        files.remove_model()
        assert list(files.out.iterdir()) == [files.out / "other"]
        assert list(files.judge.iterdir()) == [files.judged]
    assert files.copy_model(tmp_path) == []


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(40 * 2**30)


HOSTILE = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a folder": lambda path: path.mkdir(),
    "40 GB of nothing": sparse,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_model_is_not_taken_for_one_and_holds_nobody_up(what: str, tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    HOSTILE[what](files.model)
    assert files.model_bytes() == 0
    assert files.copy_model(tmp_path) == []
    assert not (tmp_path / "model.pt").exists()
    files.remove_model()
    assert os.path.lexists(files.model) == (what == "a folder")
    assert Path("/etc/passwd").exists()


def test_a_model_may_be_as_large_as_the_largest(tmp_path: Path) -> None:
    files = trained(tmp_path / "t")
    for size, taken in ((MODEL_MOST, MODEL_MOST), (MODEL_MOST + 1, 0)):
        with files.model.open("wb") as file:
            file.truncate(size)
        assert files.model_bytes() == taken
