"""clock.py: the budget, what it leaves out, and the result that a training hands over."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from clock import SLACK_S, SLACK_STEPS, Cheating, Clock, Session, genuine


def session(tmp_path: Path, **more: str) -> tuple[Session, Path]:
    path = tmp_path / "result.json"
    return Session({"AUTORESEARCH_NONCE": "n", "AUTORESEARCH_RESULT": str(path), **more}), path


def test_the_nonce_leaves_the_environment(tmp_path: Path) -> None:
    environment = {"AUTORESEARCH_NONCE": "n", "AUTORESEARCH_RESULT": "x"}
    Session(environment)
    assert environment == {"AUTORESEARCH_RESULT": "x"}


def test_the_result_tells_what_the_engine_needs(tmp_path: Path) -> None:
    one, path = session(tmp_path)
    clock = Clock(one)
    for _ in range(5):
        clock.tick()
    time.sleep(0.05)  # training that no tick tells counts all the same
    one.close()
    one.hand_over(1.5, 1.6, "id")
    found = json.loads(path.read_text())
    assert (found["nonce"], found["val_bpb"], found["hidden_bpb"], found["data"]) == ("n", 1.5, 1.6, "id")
    assert found["steps"] == 5
    assert found["training_seconds"] >= 0.05 > clock.elapsed_s
    assert found["total_seconds"] >= found["training_seconds"] + found["evaluation_seconds"]


def test_a_result_that_is_handed_over_again_tells_the_later_times(tmp_path: Path) -> None:
    one, path = session(tmp_path)
    one.close()
    one.hand_over(1.5, 1.6, "id")
    first = json.loads(path.read_text())
    time.sleep(0.02)
    one.hand_over(1.5, 1.6, "id")
    again = json.loads(path.read_text())
    assert again["total_seconds"] >= first["total_seconds"] + 0.02
    assert (again["training_seconds"], again["val_bpb"]) == (first["training_seconds"], 1.5)
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_is_measured_once(tmp_path: Path) -> None:
    one, _ = session(tmp_path)
    one.close()
    with pytest.raises(Cheating, match="twice"):
        one.close()


def test_a_second_clock_does_not_start_time_anew(tmp_path: Path) -> None:
    one, path = session(tmp_path)
    Clock(one)
    time.sleep(0.05)
    Clock(one)
    one.close()
    one.hand_over(1.0, 1.0, "")
    assert json.loads(path.read_text())["training_seconds"] >= 0.05


def test_without_a_clock_everything_counts(tmp_path: Path) -> None:
    one, path = session(tmp_path)
    time.sleep(0.05)
    one.close()
    one.hand_over(1.0, 1.0, "")
    assert json.loads(path.read_text())["training_seconds"] >= 0.05


def test_start_and_warm_up_are_left_out_up_to_the_slack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, path = session(tmp_path)
    now = [one.now()]
    monkeypatch.setattr(one, "_now", lambda: now[0])
    now[0] += SLACK_S + 10  # start: ten seconds too long
    clock = Clock(one)
    for _ in range(4):
        now[0] += 30
        clock.tick()
    assert clock.elapsed_s == pytest.approx(10 + 120 - SLACK_S)
    one.close()
    one.hand_over(1.0, 1.0, "")
    found = json.loads(path.read_text())
    assert found["training_seconds"] == pytest.approx(10 + 120 - SLACK_S)
    assert found["excluded_seconds"] == pytest.approx(2 * SLACK_S)


# --- the budget ---


def with_budget(
    monkeypatch: pytest.MonkeyPatch, budget_s: float = 10.0, max_steps: int = 0
) -> tuple[Clock, list[float]]:
    """A clock whose time is the number in the list."""
    monkeypatch.setenv("AUTORESEARCH_BUDGET_S", str(budget_s))
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", str(max_steps))
    one = Session({})
    now = [one.now()]
    monkeypatch.setattr(one, "_now", lambda: now[0])
    return Clock(one), now


def test_the_budget_is_used_from_the_end_of_the_warm_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = with_budget(monkeypatch)
    for _ in range(SLACK_STEPS):
        now[0] += 7
        clock.tick()
    assert (clock.elapsed_s, clock.fraction, clock.over) == (0.0, 0.0, False)
    now[0] += 4
    assert clock.fraction == 0.0  # it moves with the steps
    clock.tick()
    assert clock.fraction == pytest.approx(0.4)
    now[0] += 9
    clock.tick()
    assert clock.elapsed_s == pytest.approx(13)
    assert (clock.fraction, clock.over) == (1.0, True)


def test_a_number_of_steps_can_be_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = with_budget(monkeypatch, max_steps=4)
    seen = []
    while not clock.over:
        now[0] += 1000
        clock.tick()
        seen.append(clock.fraction)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_the_budget_is_300_seconds_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTORESEARCH_BUDGET_S", raising=False)
    assert Clock(Session({})).budget_s == 300


def test_sleeping_takes_time_of_the_wall_but_not_of_the_cpu(tmp_path: Path) -> None:
    taken = {}
    for clock in ("wall", "cpu"):
        one, path = session(tmp_path, AUTORESEARCH_CLOCK=clock)
        time.sleep(0.1)
        one.close()
        one.hand_over(1.0, 1.0, "")
        found = json.loads(path.read_text())
        assert found["total_seconds"] >= 0.1
        taken[clock] = found["training_seconds"]
    assert taken["cpu"] < 0.05 < 0.1 <= taken["wall"]


# --- the result ---


def test_without_a_file_for_the_result_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = Session({})
    one.close()
    one.hand_over(1.0, 1.0, "")
    assert not list(tmp_path.iterdir())


def test_a_result_that_cannot_be_written_does_not_end_the_training(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "result.json"
    one = Session({"AUTORESEARCH_RESULT": str(path)})
    one.close()
    one.hand_over(1.0, 1.0, "")
    assert not path.exists()


# --- functions that must not be replaced ---


def test_a_compiled_function_of_that_name_is_genuine() -> None:
    genuine(time.monotonic, "monotonic")
    genuine(math.log, "log")


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda: 0.0, "monotonic"), (math.log2, "log"), (time.time, "monotonic"), (3, "log")],
)
def test_anything_else_is_refused(function: object, name: str) -> None:
    with pytest.raises(Cheating, match=f"{name} was replaced"):
        genuine(function, name)
