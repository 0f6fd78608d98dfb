"""The actor as a plain object: what Ray runs in its worker process on a machine of the cluster."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import msgspec

from loop.training.ray.worker import Worker
from loop.training.remote import order
from loop.training.remote.order import Report
from tests.loop.training.contract import FORKING, LONG_S, processes
from tests.loop.training.remote.orders import Orders


class Given:
    """A worker that has been given an order."""

    def __init__(self, orders: Orders, *, code: str = "", budget_s: float = 0.2, python: str = "") -> None:
        self.job = orders.job(code=code, budget_s=budget_s)
        self.root = orders.folder / "root"
        self.worker = Worker()
        self.files = order.parcel(orders.order(self.job), orders.repository.packed(self.job.commit), None)
        self.begun = self.worker.begin(self.files, python, str(self.root))

    @property
    def folder(self) -> Path:
        return self.root / platform.node() / "run/orders" / self.job.key

    def printed(self) -> bytes:
        """All that the training prints until it has ended."""
        log, ended = b"", False
        deadline = time.monotonic() + 20
        while not ended:
            assert time.monotonic() < deadline
            more, ended = self.worker.news(len(log), 5.0)
            log += more
        return log

    def report(self) -> Report:
        return msgspec.json.decode(self.worker.read("report.json", 0), type=Report)


def test_an_order_is_carried_out_once_and_can_be_read(orders: Orders) -> None:
    given = Given(orders)
    assert given.worker.begin(given.files, "", str(given.root)) == given.begun
    assert given.begun["host"] == platform.node()
    assert b"val_bpb: 6.000000" in given.printed()
    assert given.report().ended is not None
    assert given.worker.stop() is False
    given.worker.remove()
    assert not given.folder.exists()


def test_stopping_ends_the_whole_tree(orders: Orders) -> None:
    given = Given(orders, code=FORKING, budget_s=LONG_S)
    while not given.worker.news(0, 5.0)[0]:
        pass
    assert len(processes(given.job)) == 2
    assert given.worker.stop() is True
    assert processes(given.job) == []
    assert given.report().lost is not None


def test_a_program_that_cannot_start_refuses_the_order(orders: Orders) -> None:
    given = Given(orders, python="/bin/false")
    assert given.printed() == b""
    assert given.report().refused == f"{platform.node()}: no output"


def test_a_program_that_is_killed_has_lost_the_training(orders: Orders) -> None:
    given = Given(orders, budget_s=LONG_S)
    os.kill(given.begun["pid"], 9)
    given.printed()
    lost = given.report().lost
    assert lost is not None
    assert lost.reason == f"its program on {platform.node()} was killed"


def test_only_plain_files_are_read(orders: Orders) -> None:
    given = Given(orders)
    given.printed()
    out = given.folder / "training/out"
    (out / "link").symlink_to("/etc/passwd")
    os.mkfifo(out / "pipe")
    for name in ("link", "pipe", "none", "."):
        assert given.worker.read(f"training/out/{name}", 0) == b""
    given.worker.remove()


def test_what_dead_actors_left_long_ago_is_removed(orders: Orders) -> None:
    old = orders.folder / "root" / platform.node() / "run/orders/old"
    new = old.with_name("new")
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    given = Given(orders)
    assert not old.exists()
    assert new.exists()
    given.printed()
