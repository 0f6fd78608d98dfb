"""What a trainer gets on this machine, and how strong the fence around it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loop.errors import UsageError
from loop.records.training_folder import Fence
from loop.training import fence
from loop.training.fence import Support
from loop.training.programs import machine


@pytest.mark.parametrize(
    ("support", "words"),
    [
        (Support(7, True), "full"),
        (Support(6, True), "full"),
        (Support(4, True), "partial: signals open"),
        (Support(2, True), "partial: truncation, signals open"),
        (Support(0, True), "partial: files, signals open"),
        (Support(7, False), "partial: UDP and other sockets open"),
        (Support(0, False), "none"),
    ],
)
def test_the_support_says_what_stays_open(support: Support, words: str) -> None:
    assert str(support) == words


def test_a_machine_either_has_what_is_required_or_the_engine_does_not_start() -> None:
    if str(fence.detect()) == "full":
        assert fence.choose("require") == fence.detect()
    else:
        with pytest.raises(UsageError, match="this machine gives"):
            fence.choose("require")
    assert fence.choose("off") is None


def test_only_what_training_needs_is_passed_on() -> None:
    given = {
        "PATH": "/bin", "ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": "k", "HF_TOKEN": "k", "AWS_SECRET": "k",
        "NVIDIA_API_KEY": "k", "CUDA_VISIBLE_DEVICES": "0", "LD_PRELOAD": "x", "SSH_AUTH_SOCK": "/s",
        "AUTORESEARCH_CACHE": "/c", "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    passed = fence.environment(given, {"AUTORESEARCH_SEED": "1"})
    assert set(passed) & set(given) == {
        "PATH", "CUDA_VISIBLE_DEVICES", "AUTORESEARCH_CACHE", "OMP_NUM_THREADS",
    }  # fmt: skip
    assert passed["AUTORESEARCH_SEED"] == "1"


def test_without_a_fence_only_the_size_of_files_is_limited(tmp_path: Path) -> None:
    found = fence.build(None, {}, command=["python"], data=[], write=[tmp_path], file_bytes=7)
    assert found == Fence(file_bytes=7)


def test_a_fence_lets_a_trainer_write_only_what_is_its_own(tmp_path: Path) -> None:
    home, slot, data = tmp_path / "home", tmp_path / "run/slot", tmp_path / "data"
    found = fence.build(
        Support(7, True), {"HOME": str(home)}, command=[sys.executable], data=[data], write=[slot], slot=slot,
        read=["~/models", "/mnt/teacher"], file_bytes=7,
    )  # fmt: skip
    assert (found.on, found.landlock, found.seccomp) == (True, 7, True)
    assert (found.network, found.file_bytes) == (False, 7)
    assert found.write == [str(slot), "/dev/shm"]
    assert {str(data), str(home / "models"), "/mnt/teacher", "/usr", sys.prefix} <= set(found.read)
    assert {str(tmp_path / "run/pyproject.toml"), str(tmp_path / "pyproject.toml")} <= set(found.read)
    assert not {str(home), str(tmp_path), "/", "/etc", "/etc/hosts"} & set(found.read)
    assert {"/dev/null", "/dev/urandom"} <= set(found.devices)


def test_what_connecting_needs_is_readable_only_with_network(tmp_path: Path) -> None:
    found = fence.build(Support(7, True), {}, command=["python"], data=[], write=[], network=True)
    assert found.network
    assert set(machine.NETWORK_FILES) <= set(found.read)


@pytest.mark.parametrize("folder", ["bin", ".local/bin"])
def test_a_program_in_the_home_folder_does_not_open_the_home_folder(tmp_path: Path, folder: str) -> None:
    program = tmp_path / folder / "train"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": str(program.parent)}
    found = fence.build(Support(7, True), environment, command=["train"], data=[], write=[])
    assert str(program) in found.read
    assert not {str(tmp_path), str(tmp_path / ".local")} & set(found.read)


def test_a_program_of_a_virtual_environment_opens_that(tmp_path: Path) -> None:
    program = tmp_path / "project/venv/bin/python"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    environment = {"HOME": str(tmp_path), "PATH": ""}
    found = fence.build(Support(7, True), environment, command=[str(program)], data=[], write=[])
    assert str(tmp_path / "project/venv") in found.read


def test_data_is_looked_for_in_the_usual_folders_and_the_given_ones(tmp_path: Path) -> None:
    found = fence.data_folders({"HOME": str(tmp_path)}, ["~/data", "/mnt/data", "relative"])
    assert found[1:] == [
        tmp_path / ".cache/autoresearch", tmp_path / ".cache/huggingface/hub", Path("/mnt/data"),
        tmp_path / "relative", tmp_path / "data",
    ]  # fmt: skip
    named = fence.data_folders({"HOME": "/h", "AUTORESEARCH_CACHE": "/c", "HF_HOME": "/hf"}, [])
    assert named == [Path("/c"), Path("/h/.cache/autoresearch"), Path("/hf/hub")]


def test_fresh_folders_are_empty_whatever_the_last_trainer_left(tmp_path: Path) -> None:
    scratch, cache = tmp_path / "scratch", tmp_path / "cache"
    (scratch / "home/.cache").mkdir(parents=True)
    (scratch / "home/.cache/left").write_text("x")
    environ = {"HOME": str(tmp_path)}
    found = fence.make_fresh_folders(scratch, cache=cache, data=[tmp_path / "data"], environ=environ)
    assert [path for path in scratch.rglob("*") if not path.is_dir()] == []
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert (found["HOME"], found["TMPDIR"]) == (str(scratch / "home"), str(scratch))
    assert found["TRITON_CACHE_DIR"] == str(cache / "triton")
    assert Path(found["XDG_CACHE_HOME"]).is_dir()


def test_what_compilers_keep_outlives_fresh_folders(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "triton").mkdir(parents=True)
    (cache / "triton/kernel").write_text("x")
    fence.make_fresh_folders(
        tmp_path / "s", cache=cache, data=[tmp_path / "d"], environ={"HOME": str(tmp_path)}
    )
    assert (cache / "triton/kernel").read_text() == "x"


def test_data_in_the_home_folder_is_linked_into_the_private_one(tmp_path: Path) -> None:
    inside, missing = tmp_path / "home/data", tmp_path / "home/missing"
    inside.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    environ = {"HOME": str(tmp_path / "home")}
    scratch = tmp_path / "scratch"
    fence.make_fresh_folders(scratch, cache=tmp_path / "c", data=[inside, missing, outside], environ=environ)
    assert (scratch / "home/data").resolve() == inside
    assert sorted(path.name for path in (scratch / "home").iterdir()) == [".cache", "data"]


def test_a_kernel_that_can_refuse_truncation_protects_files() -> None:
    assert [Support(version, True).protects_files for version in (0, 2, 3, 7)] == [False, False, True, True]


def test_a_trainer_inherits_no_address_with_a_password() -> None:
    assert "TORCH_STORE" not in fence.environment({"TORCH_STORE": "redis://:pw@host"}, {})


def test_what_the_trainer_is_given_goes_before_what_it_inherits() -> None:
    assert fence.environment({"PATH": "/bin"}, {"PATH": "/other"})["PATH"] == "/other"
    assert fence.environment({"OMP_WAIT_POLICY": "ACTIVE"}, {})["OMP_WAIT_POLICY"] == "ACTIVE"
    assert fence.environment({}, {})["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_a_repository_holds_out_stays_closed(tmp_path: Path) -> None:
    secret = tmp_path / "data/val.bin"
    found = fence.build(
        fence.Support(6, True),
        {"HOME": str(tmp_path)},
        command=["python"],
        data=[tmp_path / "data"],
        write=[],
        held_out=["~/data/val.bin", str(tmp_path / "other")],
    )
    assert found.hide == [str(secret), str(tmp_path / "other")]
