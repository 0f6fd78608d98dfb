"""What another machine is told: enough to train, and nothing that is the engine's own business."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from loop import __version__
from loop.paths import RunPaths
from loop.training.remote import order
from loop.training.remote.order import RESULTS, Order
from tests.loop.training.remote.orders import Orders


def test_an_order_says_what_to_train_and_with_which_settings(orders: Orders) -> None:
    job = orders.job(budget_s=7.0)
    told = orders.order(job, sandbox="off", agent="search", base_url="http://user:secret@host/v1")
    assert (told.version, told.key, told.commit, told.seed) == (__version__, job.key, job.commit, 1337)
    assert (told.budget_s, told.share, told.settings["sandbox"]) == (7.0, 2, "off")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Order) == told
    assert b"secret" not in msgspec.json.encode(told)
    assert "agent" not in told.settings


def test_a_parcel_has_the_reference_only_where_there_is_one(orders: Orders) -> None:
    told = orders.order(orders.job())
    assert list(order.parcel(told, b"objects", None)) == ["order.json", "objects"]
    assert order.parcel(told, b"objects", b"claims")["reference.npy"] == b"claims"


def test_only_plain_files_of_a_training_are_results(orders: Orders) -> None:
    folder = orders.write(orders.job())
    folder.training.reset()
    folder.training.model.write_bytes(b"model")
    folder.training.judged.symlink_to("/etc/passwd")
    os.mkfifo(folder.training.judge_log)
    folder.training.spec.write_bytes(b"x" * (RESULTS["judge/judged.json"] + 1))
    (folder.training.out / "tokenizer.json").mkdir()
    (folder.training.folder / "core").write_bytes(b"nobody asked for it")
    assert folder.results() == {"out/model.pt": 5, "spec.json": RESULTS["judge/judged.json"] + 1}


def test_a_run_has_a_name_of_its_own_that_stays(tmp_path: Path) -> None:
    runs = [RunPaths(tmp_path / name, "t") for name in ("one", "two")]
    for paths in runs:
        paths.folder.mkdir(parents=True)
    names = [order.run_name(paths) for paths in runs]
    assert len(set(names)) == 2
    assert [order.run_name(paths) for paths in runs] == names
