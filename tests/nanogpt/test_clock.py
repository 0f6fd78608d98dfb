"""clock.py: the budget, and what it leaves out."""

from __future__ import annotations

import time

import pytest

from clock import SLACK_S, SLACK_STEPS, Clock


def with_budget(
    monkeypatch: pytest.MonkeyPatch, budget_s: float = 10.0, max_steps: int = 0
) -> tuple[Clock, list[float]]:
    """A clock whose time is the number in the list."""
    monkeypatch.setenv("AUTORESEARCH_BUDGET_S", str(budget_s))
    monkeypatch.setenv("AUTORESEARCH_MAX_STEPS", str(max_steps))
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return Clock(), now


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


def test_of_a_long_warm_up_only_the_slack_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = with_budget(monkeypatch, budget_s=100.0)
    for _ in range(SLACK_STEPS):
        now[0] += SLACK_S
        clock.tick()
    assert clock.elapsed_s == pytest.approx((SLACK_STEPS - 1) * SLACK_S)
    assert clock.over


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
    assert Clock().budget_s == 300


def test_sleeping_takes_time_of_the_wall_but_not_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {}
    for name in ("wall", "cpu"):
        monkeypatch.setenv("AUTORESEARCH_CLOCK", name)
        clock = Clock()
        for _ in range(SLACK_STEPS):
            clock.tick()
        time.sleep(0.1)
        clock.tick()
        taken[name] = clock.elapsed_s
    assert taken["cpu"] < 0.05 < 0.1 <= taken["wall"]
