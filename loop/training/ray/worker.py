"""The Ray actor that carries out one order on a machine of the cluster.

Ray runs it in a worker process there. It starts the program `loop/training/remote/node.py` and lets the
engine's helper read that program's files. When the worker process dies, the program's standard input closes,
and it ends with everything that it has started. Standard library only: this class is sent to the cluster by
value.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Worker:
    """Has the resources of one training as long as it lives. Its methods run in threads of their own."""

    PROGRAM = "loop.training.remote.node"
    READ_BYTES = 4 * 2**20
    """Bytes that are sent at once."""
    LOOK_S = 0.02
    """Seconds between two looks at the log."""
    FORGOTTEN_S = 24 * 3600.0
    """An actor whose training has ended, and that nobody has asked for so long, gives its GPU back."""
    OLD_S = 3 * 24 * 3600.0
    """Age at which the folders that dead actors left are removed."""
    END_S = 15.0
    """How long the program may take to end a training before it is killed."""
    LEASE_S = 3.0
    """How long the supervisor takes to end everything after that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder, self._python = Path(), ""
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = time.monotonic()
        self._start = secrets.token_hex(8)

    def begin(self, files: dict[str, bytes], python: str, root: str) -> dict[str, Any]:
        """Start to carry out the order in `files`, once; says where, and a name for this start.

        `python` is the interpreter with autoresearch-tui; empty: this process's own. `root` is the folder for
        what trainings have in common; empty: the user's state folder.
        """
        with self._lock:
            if self._process is None:
                self._python = python or sys.executable
                order = json.loads(files["order.json"])
                self._folder = self._make_folder(root, order["run"], order["key"])
                for name, content in files.items():
                    (self._folder / name).write_bytes(content)
                self._process = self._run()
                threading.Thread(target=self._give_back, daemon=True).start()
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            return {"start": self._start, "host": platform.node(), "pid": self._process.pid, "gpus": gpus}

    def news(self, offset: int, wait_s: float) -> tuple[bytes, bool]:
        """What the training has printed since `offset`, and whether it has ended; waits for either."""
        deadline = time.monotonic() + wait_s
        while True:
            ended = self._has_ended()
            log = self.read("training/run.log", offset)
            if log or ended or time.monotonic() > deadline:
                return log, ended
            time.sleep(self.LOOK_S)

    def read(self, name: str, offset: int) -> bytes:
        """Some bytes of a file of the order's folder; a link, a pipe or no file at all is empty."""
        self._asked = time.monotonic()
        with contextlib.suppress(OSError):
            file = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                plain = stat.S_ISREG(os.fstat(file).st_mode)
                return os.pread(file, self.READ_BYTES, offset) if plain else b""
            finally:
                os.close(file)
        return b""

    def stop(self) -> bool:
        """End the training and wait for its end; returns whether it was still under way."""
        if self._process is None or self._process.poll() is not None:
            return False
        under_way = not (self._folder / "report.json").exists()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self.END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the supervisor's lease ends with it
            self._process.wait()
            time.sleep(self.LEASE_S)
        return under_way

    def remove(self) -> bool:
        """`stop`, and remove the order's folder."""
        under_way = self.stop()
        if self._process is not None:
            self._delete(self._folder)
        return under_way

    def _make_folder(self, root: str, run: str, key: str) -> Path:
        """An empty folder for the order; those that dead actors left long ago are removed."""
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        base = Path(root or f"{state}/autoresearch-tui/nodes").expanduser()
        orders = base / platform.node() / run / "orders"
        orders.mkdir(parents=True, mode=0o700, exist_ok=True)
        for other in orders.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > self.OLD_S:
                    self._delete(other)
        folder = orders / key
        if folder.exists():
            self._delete(folder)
        folder.mkdir(mode=0o700)
        return folder

    def _run(self) -> subprocess.Popen[bytes]:
        """Start the program. It ends when this process does, because it sees its standard input close."""
        with (self._folder / "node.log").open("ab") as log:
            return subprocess.Popen(
                [self._python, "-P", "-m", self.PROGRAM, str(self._folder), "--leased"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _has_ended(self) -> bool:
        """Whether there is a report; where the program left none, one is written that says so."""
        report = self._folder / "report.json"
        if report.exists():
            return True
        process = self._process
        if process is None or process.poll() is None:
            return False
        with self._lock:
            if not report.exists():
                found: dict[str, Any] = {"lost": {"reason": f"its program on {platform.node()} was killed"}}
                if process.returncode > 0:
                    words = self.read("node.log", 0).decode("utf-8", "replace").strip().splitlines()
                    found = {"refused": f"{platform.node()}: {words[-1][:200] if words else 'no output'}"}
                report.write_text(json.dumps(found))
        return True

    def _delete(self, folder: Path) -> None:
        """Remove a folder that a candidate could shape; only the program there knows how."""
        subprocess.run(
            [self._python, "-P", "-m", self.PROGRAM, "--remove", str(folder)], stderr=subprocess.DEVNULL
        )

    def _give_back(self) -> None:
        """End this actor when its training has ended and no engine has fetched the result for long."""
        assert self._process is not None, "begin has started it"
        self._process.wait()
        while time.monotonic() - self._asked < self.FORGOTTEN_S:
            time.sleep(60)
        os._exit(0)
