"""The program that keeps a place that Slurm gave: it needs a shared folder only, so no Slurm runs here."""

from __future__ import annotations

import subprocess
import sys
import time

import msgspec

from loop.training.remote.order import Report
from loop.training.slurm import worker
from tests.loop.training.contract import LONG_S, processes
from tests.loop.training.remote.orders import Orders

PROGRAM = [sys.executable, "-P", "-m", "loop.training.slurm.worker"]


def test_orders_are_carried_out_one_after_another_until_none_came_for_a_while(orders: Orders) -> None:
    folders = [orders.write(orders.job(n=n)) for n in (1, 2)]
    assert subprocess.run([*PROGRAM, str(orders.folder), "1"], timeout=30).returncode == 0
    ended = [msgspec.json.decode(f.report.read_bytes(), type=Report).ended for f in folders]
    assert ended[0] is not None
    assert ended[1] is not None
    assert ended[0].exit.ended < ended[1].exit.started


def test_a_claimed_order_is_left_alone(orders: Orders) -> None:
    first, second = (orders.write(orders.job(n=n)) for n in (1, 2))
    first.claim.touch()
    assert list(worker.waiting(orders.folder)) == [second.folder]


def test_a_place_that_is_taken_away_ends_the_training(orders: Orders) -> None:
    job = orders.job(budget_s=LONG_S)
    folder = orders.write(job)
    program = subprocess.Popen([*PROGRAM, str(orders.folder)])
    deadline = time.monotonic() + 20
    while not processes(job):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.terminate()
    assert program.wait(20) == 0
    assert processes(job) == []
    assert msgspec.json.decode(folder.report.read_bytes(), type=Report).lost is not None
