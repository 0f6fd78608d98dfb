"""The program that carries out an order on another machine, as a real process on this one."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loop import __version__
from loop.training.remote import node
from loop.training.remote.order import Node, OrderFolder, Report
from tests.loop.judged import make_judged
from tests.loop.training.contract import FORKING, LONG_S, processes
from tests.loop.training.remote.orders import Orders

PROGRAM = [sys.executable, "-P", "-m", "loop.training.remote.node"]


def begin(folder: OrderFolder, **variables: str) -> subprocess.Popen[bytes]:
    """Start the program; its standard input is open until `stdin.close()`."""
    words = [*PROGRAM, str(folder.folder), "--leased"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, env=os.environ | variables)


def report(folder: OrderFolder) -> Report:
    return msgspec.json.decode(folder.report.read_bytes(), type=Report)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def trains(folder: OrderFolder) -> bool:
    return folder.training.log.exists() and b"step 00000" in folder.training.log.read_bytes()


def test_an_order_is_carried_out_once(orders: Orders) -> None:
    job = orders.job(code="import os\nprint(os.environ['OMP_NUM_THREADS'])\n")
    folder = orders.write(job)
    assert begin(folder, CUDA_VISIBLE_DEVICES="3").wait(20) == 0
    ended = report(folder).ended
    assert ended is not None
    assert (ended.exit.outcome, ended.changed, ended.place) == ("finished", [], f"{platform.node()}:3")
    where = msgspec.json.decode(folder.node.read_bytes(), type=Node)
    assert (where.host, where.place) == (platform.node(), f"{platform.node()}:3")
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert folder.training.log.read_text().startswith(f"{threads}\n")  # two trainings share the machine
    folder.report.unlink()
    assert begin(folder).wait(20) == 0
    assert not folder.report.exists()  # somebody has claimed it


def test_a_trainer_reads_nothing_of_its_order_or_of_another_one(orders: Orders, tmp_path: Path) -> None:
    other = orders.write(orders.job(n=2))
    other.reference.write_bytes(b"claims")
    here = orders.folder / orders.job(n=1).key
    code = "for path in PATHS:\n    try:\n        print('READ', open(path, 'rb').read())\n"
    code += "    except PermissionError:\n        print('closed')\n"
    paths = [str(other.reference), *(str(here / name) for name in ("reference.npy", "order.json", "objects"))]
    folder = orders.write(orders.job(n=1, code=f"PATHS = {paths}\n{code}"))
    folder.reference.write_bytes(b"claims")
    state = {"XDG_STATE_HOME": str(tmp_path), "AUTORESEARCH_CACHE": str(tmp_path / "cache")}
    begin(folder, **state).wait(20)
    assert folder.training.log.read_text().splitlines()[:4] == ["closed"] * 4


@pytest.mark.parametrize("way", ["closed", "file"])
def test_a_training_is_stopped_with_all_its_processes(orders: Orders, way: str) -> None:
    job = orders.job(code=FORKING, budget_s=LONG_S)
    folder = orders.write(job)
    program = begin(folder)
    until(lambda: trains(folder))
    assert len(processes(job)) == 2
    if way == "closed":
        assert program.stdin
        program.stdin.close()
    else:
        folder.stop.touch()
    assert program.wait(20) == 0
    assert processes(job) == []
    lost = report(folder).lost
    assert lost is not None
    assert lost.reason == "it was stopped"


def test_a_training_ends_with_a_program_that_is_killed(orders: Orders) -> None:
    job = orders.job(code=FORKING, budget_s=LONG_S)
    folder = orders.write(job)
    program = begin(folder)
    until(lambda: trains(folder))
    program.send_signal(signal.SIGKILL)
    program.wait()
    until(lambda: not processes(job))
    assert not folder.report.exists()


def test_a_model_is_judged_there_and_the_judge_gets_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "orders").mkdir()
    orders = Orders(make_judged(tmp_path / "judged"), tmp_path / "orders")
    head = orders.repository.head()
    job = msgspec.structs.replace(orders.job(), commit=head)
    folder = orders.write(job)
    folder.reference.write_bytes(b"claims of the incumbent")
    assert begin(folder).wait(20) == 0
    found = report(folder)
    assert found.ended is not None
    assert set(found.files) == {
        "spec.json",
        "judge.log",
        "judge/judged.json",
        "judge/claims.npy",
        "out/model.pt",
    }
    judged = json.loads(folder.training.judged.read_text())
    assert judged["val_bpb"] == 1.0
    assert judged["reference"] == str(folder.reference)
    orders.repository.close()


def test_another_version_refuses_the_order(orders: Orders) -> None:
    folder = orders.write(orders.job(), version="0.0.1")
    begin(folder).wait(20)
    assert report(folder).refused == f"{platform.node()} has autoresearch-tui {__version__}, not 0.0.1"


def test_data_is_prepared_once_for_each_engine(orders: Orders, tmp_path: Path) -> None:
    count = tmp_path / "count"
    script = f"with open({str(count)!r}, 'a') as file: file.write('.')\nprint('downloading')\n"
    (orders.repository.root / "notes.txt").write_text(script)
    subprocess.run(["git", "commit", "-qam", "data"], cwd=orders.repository.root, check=True)
    command = ["{python}", "notes.txt"]
    first = orders.write(orders.job(n=1), only_prepare=True, prepare_command=command)
    cache = {"AUTORESEARCH_CACHE": str(tmp_path / "cache")}
    begin(first, **cache).wait(20)
    assert report(first) == Report()
    assert first.training.log.read_text() == "preparing data\ndownloading\n"
    second = orders.write(orders.job(n=2), prepare_command=command)
    begin(second, **cache).wait(20)
    assert report(second).ended is not None
    assert count.read_text() == "."


def test_data_that_cannot_be_prepared_is_said(orders: Orders, tmp_path: Path) -> None:
    folder = orders.write(orders.job(), prepare_command=["{python}", "-c", "raise SystemExit('no disk')"])
    begin(folder, AUTORESEARCH_CACHE=str(tmp_path / "cache")).wait(20)
    assert report(folder).refused == "preparing the data failed (exit code 1): no disk"


def test_a_machine_describes_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = json.loads(subprocess.run([*PROGRAM, "--describe"], capture_output=True, check=True).stdout)
    assert (said["host"], said["version"]) == (platform.node(), __version__)
    assert said["fence"]
    monkeypatch.setattr(node, "GPUS", tmp_path)
    assert node.gpu_model() == ""
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    assert node.gpu_model() == "NVIDIA H100 80GB HBM3"


def test_a_place_is_a_machine_and_its_chosen_gpus() -> None:
    assert node.name_of_place("a", {}) == "a"
    assert node.name_of_place("a", {"CUDA_VISIBLE_DEVICES": "1"}) == "a:1"


def test_a_folder_that_a_candidate_has_shaped_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "order"
    deep.mkdir()
    at = os.open(deep, os.O_RDONLY)
    for _ in range(2000):  # deeper than Python's recursion limit
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    subprocess.run([*PROGRAM, "--remove", str(deep)], check=True)
    assert not deep.exists()
