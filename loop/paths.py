"""Where the files of a run are, and which names a run may have."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from loop.errors import UsageError

HOME = ".autoresearch"


class RunPaths:
    """The folder of one run: `.autoresearch/<tag>/`."""

    def __init__(self, root: Path, tag: str) -> None:
        """`root` is the top folder of the repository."""
        self.root = root
        self.tag = tag
        self.folder = root / HOME / tag
        self.journal = self.folder / "journal.jsonl"
        self.lock = self.folder / "engine.lock"
        self.info = self.folder / "engine.json"
        self.log = self.folder / "engine.log"
        self.flags = self.folder / "flags.json"
        """The flags that the detached engine was started with."""
        self.notes = self.folder / "notes.md"
        self.results = root / "results.tsv"
        self.venv = self.folder / "venv"
        """The packages that uv installs, where trainings are started by uv."""
        self.compiled = self.folder / "compiled"
        """What compilers such as Triton keep: a folder for each commit, or one for all (compile_cache.py)."""

    def check(self) -> None:
        """Raise `UsageError` when a repository of somebody else leads this run's files somewhere else."""
        for path in (self.root / HOME, self.folder):
            if path.is_symlink():
                raise UsageError(f"{path} leads elsewhere (it is a link): remove it, runs belong there")
        for path in self._links():
            raise UsageError(f"{path} leads elsewhere (it is a link): remove it, files of a run belong there")
        if not table(self.results):
            raise UsageError(
                f"{self.results} is a link that leads to no .tsv file of the repository: remove it"
            )
        if self.results.exists() and not self.results.is_file():
            raise UsageError(f"{self.results} is no plain file: move it away")

    def _links(self) -> Iterator[Path]:
        """Links in the place of this run's own files and folders: none of ours is one.

        A link such as `.#notes.md` is a lock of Emacs, there as long as the notes are being edited.
        """
        for folder in (self.folder, self.folder / "slots"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                links = (entry for entry in entries if entry.is_symlink())
                yield from (Path(link.path) for link in links if not link.name.startswith(".#"))

    def create(self) -> None:
        """Make the folder, for this user alone, and invisible to git without touching the user's ignore file.

        Raises `UsageError` when a link stands in its place, or when it cannot be written.
        """
        self.check()
        home = self.root / HOME
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.chmod(0o700)  # transcripts and logs are nobody else's business
            with contextlib.suppress(FileExistsError), (home / ".gitignore").open("x") as ignore:
                ignore.write("*\n")
        except OSError as error:
            raise UsageError(f"cannot write {self.folder}: {error.strerror}") from error

    def slot(self, name: int | str) -> Path:
        """The folder of a seat's slot: it holds the code of the training that runs on the seat. One more slot
        has the name `prepare`."""
        return self.folder / "slots" / str(name)

    def frozen(self, number: int) -> Path:
        """A second copy of that code, in which no trainer can write: the saved model is loaded with it."""
        return self.folder / "slots" / f"{number}-frozen"

    def experiment(self, n: int) -> Path:
        return self.folder / "experiments" / f"{n:04d}"

    def transcript(self, n: int) -> Path:
        return self.experiment(n) / "transcript.jsonl"

    def training(self, n: int, number: int) -> Path:
        """The folder of one training of experiment `n`. Version 0.1.0 called it `run-1`, not `training-1`."""
        older = self.experiment(n) / f"run-{number}"
        return older if older.is_dir() else self.experiment(n) / f"training-{number}"

    def socket(self) -> Path:
        """The engine's socket: in a private folder, and short, because a socket's path may have 107 bytes.

        Raises `UsageError` when somebody else owns that folder.
        """
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
        folder = runtime / "autoresearch-tui"
        if not runtime.is_absolute() or not _is_own(runtime) or len(str(folder)) > 80:
            folder = Path(tempfile.gettempdir()) / f"autoresearch-tui-{os.getuid()}"
        return _private(folder) / f"{self.identity}.sock"

    def scratch(self, seat: int | str) -> Path:
        """Where temporary files of a training on this seat go, or those of a `sample`.

        The path is short, because programs put sockets there.
        Raises `UsageError` when somebody else owns the folder around it.
        """
        folder = Path(tempfile.gettempdir()) / f"autoresearch-tui-{os.getuid()}"
        return _private(folder) / f"{self.identity}-{seat}"

    @property
    def identity(self) -> str:
        """16 hex digits that no other run on this machine has."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]


def _private(folder: Path) -> Path:
    """Make a folder that only this user can look into. Raises `UsageError` when somebody else owns it."""
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UsageError(
                f"{folder} is not a folder of yours: set XDG_RUNTIME_DIR and TMPDIR to private ones"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}") from error
    return folder


def _is_own(folder: Path) -> bool:
    """Whether it is a folder of this user: who owns a folder can replace what others have put there."""
    with contextlib.suppress(OSError):
        return folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    return False


def owner_only(path: str, flags: int) -> int:
    """An `opener` for `open`: a file that it makes can be read by this user alone.

    It follows no link and waits for no pipe. Raises OSError where something else than a plain file stands.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no plain file", path)
    return descriptor


def write_whole(file: Path, content: bytes | Iterable[bytes], *, durable: bool = False) -> None:
    """Write a file for this user alone; whoever reads it finds all of it, or what was there before.

    `content` may come in pieces. `durable`: also after the machine has lost power. Raises OSError.
    """
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:  # has mode 0600
        try:
            draft.writelines([content] if isinstance(content, bytes) else content)
            draft.flush()
            if durable:
                os.fsync(draft.fileno())
            os.replace(draft.name, file)
        except OSError:
            os.unlink(draft.name)
            raise


def leads_inside(path: Path, root: Path) -> bool:
    """Whether a path, once all links are followed, lies in the folder `root`."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def table(path: Path) -> Path | None:
    """Where results.tsv lies, which may be a link to another .tsv file of the repository; None where it leads
    elsewhere."""
    real = Path(os.path.realpath(path))
    return real if real.suffix == path.suffix and leads_inside(real, path.parent) else None


def tags(root: Path) -> list[str]:
    """Tags of the runs of this repository, the one that was active last at the end."""
    found = []
    for journal in (root / HOME).glob("*/journal.jsonl"):
        with contextlib.suppress(OSError):
            kept = journal.lstat()
            if stat.S_ISREG(kept.st_mode):
                found.append((kept.st_mtime, journal.parent.name))
    return [tag for _, tag in sorted(found)]


def newest(root: Path, wanted: str | None) -> str | None:
    """The wanted run or the newest one, None when there is none. Raises `UsageError` for an unknown tag."""
    known = tags(root)
    if wanted and check_tag(wanted) not in known:
        raise UsageError(f"no run {wanted} here; there is {', '.join(known) or 'none'}")
    return wanted or (known[-1] if known else None)


def check_tag(tag: str) -> str:
    """The tag, if a branch and a folder can be named so. Raises `UsageError`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", tag):
        raise UsageError(f"--tag {tag!r} must be letters, digits, - or _ (at most 64)")
    return tag


def new_tag(today: date, taken: set[str]) -> str:
    """A tag made of the date, such as `nov23`, or `nov23-2` when that is taken."""
    base = f"{today:%b%d}".lower()
    return next(t for t in [base, *(f"{base}-{i}" for i in range(2, 10_000))] if t not in taken)
