"""Held-out text is closed behind the fence, wherever on the machine it lies; what training needs is open."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from corpus import Sympy, split_sympy

from loop.records.training_folder import Fence
from loop.training import fence, hidden
from loop.training.programs import sandbox

SUPPORT = fence.detect()
needs_landlock = pytest.mark.skipif(not SUPPORT.landlock, reason="this kernel has no Landlock")
FENCED = """
import json, runpy, sys
_, program, around, code, *words = sys.argv
runpy.run_path(program)["enter"](json.loads(around))
sys.argv[1:] = words
exec(code)
"""
NEEDLES = 16
SEARCH = """
import os, sys
needles = [word.encode() for word in sys.argv[1].split("|")]
seen, found = 0, []
for top in sys.argv[3:]:
    for folder, _, names in os.walk(top):
        for path in (os.path.join(folder, name) for name in names):
            try:
                if path.endswith(tuple(sys.argv[2].split())) and os.path.getsize(path) < 50_000_000:
                    content = open(path, "rb").read()
                    seen += 1
                    found += [path] if any(needle in content for needle in needles) else []
            except OSError:
                pass
print(seen, *found, sep="\\n")
"""
"""Reads all files with certain endings below some folders, as far as it may; prints which hold a needle."""
COMPILE = """
import torch
f = torch.compile(lambda x, w: torch.relu(x @ w).square().sum(), dynamic=True)
for rows in (8, 12):
    x, w = torch.randn(rows, 16), torch.randn(16, 16, requires_grad=True)
    f(x, w).backward()
    assert torch.allclose(w.grad, 2 * x.T @ torch.relu(x @ w), rtol=1e-3), "wrong gradients"
print("compiled")
"""


@functools.cache
def sympy() -> Sympy:
    return split_sympy()


def package() -> Path:
    """The folder of sympy."""
    return next(path for path in sympy().held_out[0].parents if path.name == "sympy")


def needles() -> list[str]:
    """A sentence of each of many held-out documents that stands in no text for training."""
    trained, found = "\n".join(sympy().documents["train"] + sympy().documents["tune"]), []
    for text in sympy().documents["val"] + sympy().documents["hidden"]:
        lines = re.findall(r"^ *([A-Z][a-z]+ [A-Za-z ,]{40,}\.)$", text, re.MULTILINE)
        found += [line for line in lines if line not in trained][:1]
    return found[:: max(1, len(found) // NEEDLES)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache folder like that of prepare.py: sympy, also in an older format, and a folder are prepared."""
    cache, mine = tmp_path / "cache", tmp_path / "data/mine"
    for name, content in {
        "cache/held-out/sympy-v5/val.npy": "held-out words of mine",
        "cache/held-out/sympy-v5/sources.json": json.dumps(list(map(str, sympy().held_out))),
        "cache/held-out/text-1-v5/sources.json": json.dumps([str(mine)]),
        "cache/held-out/hub/shard.parquet": "held-out words of mine",
        "cache/hub/shard.parquet": "held-out words of mine",
        "cache/sympy-v4/val.npy": "held-out words of mine",
        "cache/sympy-v4/train.npy": "held-out words of mine",
        "cache/sympy-v5/train.npy": "words to learn",
        "data/mine/a.txt": "held-out words of mine",
        "data/other.txt": "words to learn",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return cache


def around(cache: Path, data: list[Path], hide: bool = True) -> Fence:
    scratch = cache.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return fence.build(
        SUPPORT, os.environ, command=[sys.executable], data=[cache, *data], write=[scratch],
        cache=cache if hide else None,
    )  # fmt: skip


def behind(fenced: Fence, code: str, *words: str) -> list[str]:
    """The lines that this code prints behind a fence."""
    given = [sandbox.__file__, msgspec.json.encode(fenced).decode(), code, *words]
    scratch = fenced.write[0]
    environment = {**os.environ, "TMPDIR": scratch, "TORCHINDUCTOR_CACHE_DIR": scratch, "HOME": scratch}
    done = subprocess.run(
        [sys.executable, "-c", FENCED, *given], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.splitlines()


# --- what is found ---


def test_all_formats_and_all_sources_are_hidden(cache: Path) -> None:
    found = set(hidden.held_out(cache, []))
    assert {str(cache / name) for name in ("held-out", "hub", "sympy-v4")} <= found
    assert str(cache.parent / "data/mine") in found
    for path in sympy().held_out:
        assert {os.path.realpath(path), os.path.realpath(path.parent / "__pycache__")} <= found
    assert not {str(cache), str(cache / "sympy-v5"), os.path.realpath(package())} & found


@pytest.mark.parametrize(
    "place",
    [
        "lib/python3/dist-packages", "local/lib/python3.9/dist-packages", "pkgs/sympy-1.13/site-packages",
        "versions/3.11.7/lib/python3.11/site-packages", "versions/3.11.7/envs/x/lib/python3.11/site-packages",
        "conda/envs/x/lib/python3.12/site-packages",
    ],
)  # fmt: skip
def test_other_copies_of_the_package_are_found_in_the_usual_places(
    cache: Path, tmp_path: Path, place: str
) -> None:
    name = sympy().held_out[0].relative_to(package())
    copy = tmp_path / "system" / place / "sympy" / name
    copy.parent.mkdir(parents=True)
    copy.write_text("the same text")
    assert str(copy) in hidden.held_out(cache, ["/proc", str(tmp_path / "system")])
    assert str(copy) not in hidden.held_out(cache, [str(tmp_path / "data")])


def test_a_file_of_sources_that_cannot_be_read_hides_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "held-out/x-v5/sources.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert hidden.held_out(tmp_path, []) == sorted(map(str, (tmp_path / "held-out", tmp_path / "hub")))


# --- what the fence makes of it ---


@needs_landlock
@pytest.mark.parametrize("all_packages", [False, pytest.param(True, marks=pytest.mark.slow)])  # a gigabyte
def test_a_fenced_process_finds_no_held_out_text_in_all_that_it_can_read(
    cache: Path, all_packages: bool
) -> None:
    """It reads the texts of the package, or of Python and all packages, and the data, also through links."""
    link = cache.parent / "link"
    link.symlink_to(cache)
    data = [cache.parent / "data", link]
    sought = "|".join([*needles(), "held-out words of mine"])
    ends = ".npy .txt .parquet .json .py .pyc"
    _, *without = behind(around(cache, data, hide=False), SEARCH, sought, ends, str(package()))
    assert len({str(path) for path in sympy().held_out} & set(without)) > 10
    tops = [str(package().parent), sys.base_prefix] if all_packages else [str(package())]
    seen, *found = behind(around(cache, data), SEARCH, sought, ends, *tops, str(cache), *map(str, data))
    assert found == []
    assert int(seen) > (5000 if all_packages else 2000)


@needs_landlock
def test_what_lies_beside_hidden_files_can_be_read_listed_and_imported(cache: Path) -> None:
    code = """
import os, sys
import sympy.crypto.crypto, sympy.physics.units.prefixes
folder = os.path.join(os.path.dirname(sympy.__file__), "physics/quantum")
print(len(os.listdir(folder)), len(open(os.path.join(folder, "cartesian.py")).read()))
print(open(sys.argv[1] + "/sympy-v5/train.npy").read(), open(sys.argv[1] + "/../data/other.txt").read())
for path in (folder + "/hilbert.py", sys.argv[1] + "/held-out/sympy-v5/val.npy", "/etc/shadow"):
    try:
        open(path)
    except PermissionError:
        print("closed")
try:
    open(sys.argv[1] + "/sympy-v5/train.npy", "w")
except PermissionError:
    print("not to be written")
"""
    folder = package() / "physics/quantum"
    size = len((folder / "cartesian.py").read_text())
    assert behind(around(cache, [cache.parent / "data"]), code, str(cache)) == [
        f"{len(os.listdir(folder))} {size}", "words to learn words to learn", "closed", "closed", "closed",
        "not to be written",
    ]  # fmt: skip


@pytest.mark.slow
@needs_landlock
def test_torch_compiles_behind_the_fence(cache: Path) -> None:
    assert behind(around(cache, []), COMPILE) == ["compiled"]


def test_a_data_folder_inside_a_hidden_one_stays_closed_too(cache: Path) -> None:
    mine, inner = cache.parent / "data/mine", cache.parent / "data/mine/inner"
    inner.mkdir()
    found = around(cache, [mine, inner, cache.parent / "data"])
    assert not {str(mine), str(inner)} & set(found.read)
    assert str(cache.parent / "data") in found.read
