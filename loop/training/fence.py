"""What a trainer may reach on this machine: how strong the fence can be, and what stays inside it.

`loop/sandbox.py` is the fence itself; here is decided what it leaves open (docs/sandbox.md).
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

from loop.errors import UsageError
from loop.records.training_folder import Fence
from loop.text import names_a_secret
from loop.training.programs import sandbox

Wish = Literal["off", "auto", "require"]

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/gnu/store", "/sys", "/proc",
    "/run/opengl-driver", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload",
    "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/alternatives",
    "/etc/os-release", "/etc/OpenCL", "/etc/nvidia", "/etc/mime.types", "/etc/ssl/openssl.cnf",
)  # fmt: skip
NETWORK = (
    "/etc/hosts", "/etc/resolv.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
    "/etc/ssl/certs", "/etc/ca-certificates", "/etc/pki/tls", "/run/systemd/resolve",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "nvidia-caps/*", "dri/*", "kfd")
PROJECT = ("pyproject.toml", "uv.toml", ".python-version")
"""What uv looks for in every folder above the one it runs in."""
USERS_TOOLS = (".pyenv", ".local/bin", ".local/lib", ".local/share/uv")
"""Interpreters that people keep in their home folder."""


class Level(msgspec.Struct, frozen=True):
    """What the kernel gives: the version of Landlock (0: none), and whether calls can be filtered."""

    landlock: int = 0
    seccomp: bool = False

    def __str__(self) -> str:
        """`full`, `none`, or `partial` with what stays open."""
        if not self.landlock and not self.seccomp:
            return "none"
        gaps = [] if self.landlock >= 3 else ["truncation"] if self.landlock else ["files"]
        gaps += [] if self.landlock >= 6 else ["signals"]
        gaps += [] if self.seccomp else ["UDP and other sockets"]
        return f"partial: {', '.join(gaps)} open" if gaps else "full"


@functools.cache
def detect() -> Level:
    """Try it out in a process of its own. Never raises: what cannot be tried is not there."""
    program = Path(sandbox.__file__)
    with contextlib.suppress(OSError, subprocess.SubprocessError, msgspec.DecodeError):
        found = subprocess.run(
            [sys.executable, "-I", "-S", str(program)], capture_output=True, timeout=20, check=True
        )
        return msgspec.json.decode(found.stdout, type=Level, strict=False)
    return Level()


def choose(wish: Wish) -> Level | None:
    """The level to use, None for no fence. Raises `UsageError` when more is required than there is."""
    if wish == "off":
        return None
    level = detect()
    if wish == "require" and str(level) != "full":
        raise UsageError(
            f"--sandbox require, but this machine gives: {level}; use a newer Linux kernel (6.12), "
            "or `--sandbox auto` to run with what there is"
        )
    return level


def data_folders(environ: Mapping[str, str], more: Iterable[str]) -> list[Path]:
    """Where prepared data may be: read by every candidate, changed by none."""
    home = _home(environ)
    ours = environ.get("AUTORESEARCH_CACHE")
    given = [home / path for path in more if not path.startswith("~")]
    given += [home / path.removeprefix("~").lstrip("/") for path in more if path.startswith("~")]
    hub = Path(environ.get("HF_HOME") or home / ".cache/huggingface") / "hub"
    own = Path(ours).expanduser() if ours else Path(platformdirs.user_cache_dir("autoresearch-tui"))
    return [own.absolute(), home / ".cache/autoresearch", hub, *given]


def fence(
    level: Level | None,
    environ: Mapping[str, str],
    *,
    command: list[str],
    data: list[Path],
    write: list[Path],
    slot: Path | None = None,
    read: Iterable[str] = (),
    network: bool = False,
    file_bytes: int = 0,
) -> Fence:
    """The fence around one training run: `write` is all it may change."""
    if level is None:
        return Fence(file_bytes=file_bytes)
    home = _home(environ)
    system = [*SYSTEM, *(NETWORK if network else ())]
    readable = [*system, *_interpreters(command, environ), *(str(path) for path in data)]
    readable += [str(home / path.removeprefix("~/")) for path in read]
    readable += [str(above / name) for above in (slot.parents if slot else ()) for name in PROJECT]
    devices = [str(path) for pattern in DEVICES for path in Path("/dev").glob(pattern)]
    return Fence(
        True, level.landlock, level.seccomp, network, file_bytes, readable,
        [*(str(path) for path in write), "/dev/shm"], devices,
    )  # fmt: skip


def lodgings(scratch: Path, cache: Path, environ: Mapping[str, str], data: list[Path]) -> dict[str, str]:
    """Empty temporary and home folders for a run, data linked into the latter; as environment variables.

    What compilers cache outlives the run: a cold compilation takes a quarter of a minute and more.
    """
    shutil.rmtree(scratch, ignore_errors=True)
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
        "AUTORESEARCH_CACHE": str(data[0]),
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
        "HF_HUB_OFFLINE": "1",
    }


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _interpreters(command: list[str], environ: Mapping[str, str]) -> Iterator[str]:
    """Folders of our own Python and of the one that the command starts, with their packages."""
    home = _home(environ)
    yield from {sys.prefix, sys.base_prefix, sys.exec_prefix}
    yield from filter(None, [environ.get("VIRTUAL_ENV")])
    yield from (path for path in sys.path if path.rstrip("/").endswith(("site-packages", "dist-packages")))
    yield from (str(home / name) for name in USERS_TOOLS)
    yield from filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))
    yield environ.get("CUDA_HOME") or "/usr/local/cuda"
    started = shutil.which(command[0], path=environ.get("PATH"))
    for program in {Path(started).absolute(), Path(started).resolve()} if started else ():
        yield str(program)
        prefix = program.parent.parent
        private = home.is_relative_to(prefix) or prefix == home / ".local"
        if program.parent.name == "bin" and not private:
            yield str(prefix)


PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)
PREFIXES = ("CUDA", "NVIDIA", "NCCL", "TORCH", "TRITON", "OMP_", "MKL_", "OPENBLAS", "AUTORESEARCH_", "XDG_")
"""Variables that a trainer inherits, and beginnings of their names; but none whose name tells a secret."""


def environment(base: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: an allow-list of `base`, then settings that make CPU training fast.

    Figures: passive OpenMP waiting is 8x faster beside another busy process, and high malloc thresholds keep
    glibc from mapping the logits anew each step (5,384 -> 7,875 tokens/s at vocabulary 4096).
    """
    passed = {
        name: value
        for name, value in base.items()
        if (name in PASSED_ON or name.startswith(PREFIXES)) and not names_a_secret(name)
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
