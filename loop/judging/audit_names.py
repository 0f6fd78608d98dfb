"""The names that the audit looks for, and what each is used for."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "evaluation", "summary", "patch", "data", "clock", "seed", "environment", "files", "network",
    "process", "introspection",
]  # fmt: skip
"""What a finding is about; docs/verdicts.md has a line for each."""

MODULES: dict[str, Kind] = {
    **dict.fromkeys(("socket", "ssl", "http", "urllib", "requests", "httpx", "ftplib", "smtplib"), "network"),
    **dict.fromkeys(("huggingface_hub", "asyncio", "websockets", "aiohttp"), "network"),
    **dict.fromkeys(("subprocess", "multiprocessing", "signal", "pty", "ctypes", "cffi"), "process"),
    **dict.fromkeys(("pickle", "shelve", "tempfile", "shutil", "glob", "mmap", "fcntl", "dbm"), "files"),
    **dict.fromkeys(("sqlite3", "pathlib", "io", "zipfile", "tarfile", "safetensors"), "files"),
    **dict.fromkeys(("gc", "inspect", "importlib", "builtins", "types", "runpy", "code"), "introspection"),
    **dict.fromkeys(("marshal", "dis", "unittest", "tracemalloc", "atexit", "weakref"), "introspection"),
}
"""Modules that training has no use for."""

CALLS: dict[str, Kind] = {
    **dict.fromkeys(("open", "torch.load", "torch.save", "torch.from_file", "os.open"), "files"),
    **dict.fromkeys(("os.listdir", "os.scandir", "os.walk", "os.read", "os.write", "os.fdopen"), "files"),
    **dict.fromkeys(("torch.jit.load", "torch.jit.save", "numpy.load", "numpy.save"), "files"),
    **dict.fromkeys(("numpy.memmap", "numpy.fromfile", "numpy.savez", "numpy.loadtxt"), "files"),
    **dict.fromkeys(("os.system", "os.popen", "os.fork", "os.kill", "os.abort", "os._exit"), "process"),
    **dict.fromkeys(("exec", "eval", "compile", "__import__", "globals", "vars", "breakpoint"), "process"),
    **dict.fromkeys(("sys._getframe", "sys.settrace", "sys.setprofile"), "introspection"),
    **dict.fromkeys(("os.putenv", "os.unsetenv", "os.getenvb"), "environment"),
    **dict.fromkeys(("torch.hub.load", "torch.hub.load_state_dict_from_url"), "network"),
    **dict.fromkeys(("torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline"), "process"),
}
"""Functions that training has no use for, by their full names."""
PROCESS_CALLS = ("os.exec", "os.spawn", "os.posix_spawn")
"""Beginnings of more such names: the variants of functions that start programs."""

HOOKS = ("__torch_function__", "__torch_dispatch__", "TorchFunctionMode", "TorchDispatchMode")
"""Names by which code changes what torch itself computes."""
INNER = (
    "__globals__", "__closure__", "__code__", "__dict__", "__subclasses__", "__builtins__", "__mro__",
    "__loader__", "__spec__", "tb_frame", "f_back", "f_locals", "f_globals", "gi_frame", "cr_frame",
)  # fmt: skip
"""Attributes by which code reaches other code's variables."""
SWITCHES = ("torch.backends.", "torch._dynamo.config.", "torch._inductor.config.", "torch._functorch.config.")
"""Beginnings of settings of torch: setting them is no patch."""

MEASURING = ("evaluation", "clock")
"""Modules that measure. Candidates may use what `prepare` imports from them, and nothing else of them."""
PROTECTED = ("prepare", *MEASURING)
"""The modules beside train.py that no candidate may change."""
FOLDERS = ("folder", "cache_folder")
"""Names of the folders of prepared data. Training gets its batches from `Data`, and needs no path."""
HELD_OUT = ("val", "tune", "hidden", "val.npy", "tune.npy", "hidden.npy")
"""The splits of the prepared data that no training may see, and their files."""
VARIABLES = "AUTORESEARCH_"
"""What the names of our environment variables begin with."""
ALLOWED_VARIABLE = "AUTORESEARCH_SEED"
"""The one of them that a candidate may name."""
SYSTEM_FOLDERS = ("/proc", "/dev/", "/sys/")
"""Paths by which code reaches other processes and the machine."""
