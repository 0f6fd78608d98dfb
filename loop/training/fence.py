"""Decides which files, devices and environment variables a trainer on this machine gets.

programs/sandbox.py puts up the fence that denies everything else; docs/sandbox.md describes both.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from loop.errors import UsageError
from loop.records.training_folder import Fence
from loop.text import is_secret
from loop.training import hidden
from loop.training.programs import machine
from loop.training.programs.leftovers import remove

Setting = Literal["off", "auto", "require"]
"""Values of the setting `sandbox`: no fence, as much of it as the kernel can do, or all of it."""

TRAINER_FILES = ("/run/opengl-driver", "/etc/OpenCL", "/etc/nvidia", "/etc/ssl/openssl.cnf")
"""What libraries and GPU drivers of a trainer read besides."""
DEVICES = (*machine.DEVICES, "nvidia*", "nvidia-caps/*", "dri/*", "kfd", "dxg")
"""Devices below /dev that a trainer may use: simple ones, and GPUs of NVIDIA, Intel and AMD, also those that
Windows shares (dxg)."""
UV_FILES = ("pyproject.toml", "uv.toml", ".python-version")
"""What uv looks for in every folder above the one it runs in."""
HOME_INTERPRETERS = (".pyenv", ".local/bin", ".local/lib", ".local/share/uv")
"""Where in their home folder people keep Python interpreters and packages."""


class Support(msgspec.Struct, frozen=True):
    """What this machine's kernel can do for the fence."""

    landlock: int = 0
    """Version of Landlock, which restricts files, TCP and signals; 0: none."""
    seccomp: bool = False
    """System calls can be filtered."""
    memory: bool = False
    """A process can have shared memory of its own."""

    @property
    def protects_files(self) -> bool:
        """Whether a trainer can be kept from writing to, and from truncating, a file it may only read."""
        return self.landlock >= 3

    def __str__(self) -> str:
        """`full`, `none`, or `partial` with what is not protected."""
        if not self.landlock and not self.seccomp:
            return "none"
        gaps = [] if self.protects_files else ["truncation"] if self.landlock else ["files"]
        gaps += [] if self.landlock >= 6 else ["signals"]
        gaps += [] if self.seccomp else ["UDP and other sockets"]
        return f"partial: {', '.join(gaps)} open" if gaps else "full"


def detect() -> Support:
    """What the kernel supports, found by putting up a fence around a small process. Never raises."""
    return msgspec.convert(machine.measures(), Support, strict=False)


def choose(setting: Setting) -> Support | None:
    """What to build the fence with; None for no fence.

    Raises `UsageError` when the setting requires a whole fence and the kernel cannot do it.
    """
    if setting == "off":
        return None
    support = detect()
    if setting == "require" and str(support) != "full":
        raise UsageError(
            f"--sandbox require, but this machine gives: {support}; use a newer Linux kernel (6.12), "
            "or `--sandbox auto` to run with what there is"
        )
    return support


def data_folders(environ: Mapping[str, str], more: Iterable[str]) -> list[Path]:
    """Folders with prepared data, which trainers may read but not change: the usual ones and `more`.

    The first is where this project's own trainer keeps its data.
    """
    home = _home(environ)
    cache = environ.get("AUTORESEARCH_CACHE")
    own = Path(cache).expanduser() if cache else Path(platformdirs.user_cache_dir("autoresearch-tui"))
    huggingface = Path(environ.get("HF_HOME") or home / ".cache/huggingface") / "hub"
    given = sorted(more, key=lambda path: path.startswith("~"))
    return [own.absolute(), home / ".cache/autoresearch", huggingface, *(_at_home(home, p) for p in given)]


def build(
    support: Support | None,
    environ: Mapping[str, str],
    *,
    command: list[str],
    data: list[Path],
    write: list[Path],
    slot: Path | None = None,
    read: Iterable[str] = (),
    network: bool = False,
    file_bytes: int = 0,
    memory_bytes: int = 0,
    cache: Path | None = None,
    held_out: Iterable[str] = (),
) -> Fence:
    """The fence around one training that `command` starts; without `support` it only limits file sizes.

    The trainer may change files in `write` alone. It may read the system's files, the interpreter, `data`,
    `read`, and uv's settings above its `slot`. No file that it writes may exceed `file_bytes`, and its shared
    memory, where it has its own, `memory_bytes` (0: any size).
    `held_out` stays closed, and with `cache`, the folder of prepared data, all held-out text that it names.
    """
    if support is None:
        return Fence(file_bytes=file_bytes)
    home = _home(environ)
    programs = [*machine.SYSTEM_FILES, *TRAINER_FILES, *_interpreters(command, environ)]
    programs += machine.NETWORK_FILES if network else ()
    hide = hidden.held_out(cache, [*programs, *map(str, data)]) if cache else []
    hide += [os.path.realpath(_at_home(home, path)) for path in held_out]
    readable = [*programs, *(str(path) for path in data if path == cache or not hidden.covers(hide, path))]
    readable += [str(_at_home(home, path)) for path in read]
    readable += [str(above / name) for above in (slot.parents if slot else ()) for name in UV_FILES]
    return Fence(
        on=True,
        landlock=support.landlock,
        seccomp=support.seccomp,
        memory=support.memory,
        memory_bytes=memory_bytes,
        network=network,
        file_bytes=file_bytes,
        read=readable,
        write=[*(str(path) for path in write), "/dev/shm"],
        hide=hide,
        devices=[str(path) for pattern in DEVICES for path in Path("/dev").glob(pattern)],
    )


def make_fresh_folders(
    scratch: Path, *, cache: Path, data: list[Path], environ: Mapping[str, str], network: bool = False
) -> dict[str, str]:
    """Empty `scratch`, and make a temporary folder and a home folder for one training in it.

    Returns the environment variables that make the trainer use them, and that keep it from asking a data hub
    unless it has `network`. Data that lies in the user's home folder is linked into the new one. `cache` is
    where compilers keep their output; it stays for later trainings, because a cold compilation takes 15 s and
    more.
    """
    remove(scratch)
    home, true_home = scratch / "home", _home(environ)
    for folder in (home / ".cache", cache):
        folder.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o700)
    for path in data:
        if path.is_relative_to(true_home) and path.exists():
            link = home / path.relative_to(true_home)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(path)
    return {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        **({"AUTORESEARCH_CACHE": str(data[0])} if data else {}),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_RUNTIME_DIR": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "UV_CACHE_DIR": str(scratch / "uv"),
        "PYTHONNOUSERSITE": "1",
        **({"HF_HUB_CACHE": f"{environ['HF_HOME']}/hub"} if environ.get("HF_HOME") else {}),
        **({} if network else {"HF_HUB_OFFLINE": "1"}),
    }


def _at_home(home: Path, path: str) -> Path:
    """A path of the settings: `~`, and what does not begin with `/`, is in the home folder."""
    return home / (path.removeprefix("~").lstrip("/") if path.startswith("~") else path)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _interpreters(command: list[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Folders of the engine's own Python and of the program that the command starts, with their packages."""
    home = _home(environ)
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix}
    yield from filter(None, [environ.get("VIRTUAL_ENV")])
    yield from (path for path in sys.path if path.rstrip("/").endswith(("site-packages", "dist-packages")))
    yield from (str(home / name) for name in HOME_INTERPRETERS)
    yield from filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))
    yield environ.get("CUDA_HOME") or "/usr/local/cuda"
    started = shutil.which(command[0], path=environ.get("PATH"))
    for program in {Path(started).absolute(), Path(started).resolve()} if started else ():
        yield str(program)
        prefix = program.parent.parent
        # A program in ~/bin or ~/.local/bin must not open the whole home folder.
        private = home.is_relative_to(prefix) or prefix == home / ".local"
        if program.parent.name == "bin" and not private:
            yield str(prefix)


PASSED_NAMES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
)  # fmt: skip
PASSED_PREFIXES = (
    "CUDA", "NVIDIA", "NCCL", "TORCH", "TRITON", "OMP_", "MKL_", "OPENBLAS", "AUTORESEARCH_", "XDG_",
)  # fmt: skip
"""A trainer inherits variables with these names, or whose names begin like this, but none that is secret."""


def environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: what it may inherit from `base`, settings for speed on a CPU, and `extra`.

    Measured with nanogpt/train.py on a CPU: passive OpenMP waiting is 8 times as fast beside another busy
    process. High malloc thresholds keep glibc from mapping the logits anew each step: 7,875 tokens/s instead
    of 5,384 at a vocabulary of 4096.
    """
    passed = {
        name: value
        for name, value in base.items()
        if (name in PASSED_NAMES or name.startswith(PASSED_PREFIXES)) and not is_secret(name, value)
    }
    fast = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "2073741824",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
    }
    return {**fast, **passed, **extra}
