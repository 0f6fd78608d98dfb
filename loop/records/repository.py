"""Git through dulwich: objects and refs only. The user's checkout, index and HEAD are never written.

refs/heads/autoresearch/<tag>        the incumbent
refs/autoresearch/<tag>/0007         candidate 7, kept or not: nothing that was tried is ever lost
refs/notes/autoresearch              each candidate's result
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from dulwich.errors import NotGitRepository, NotTreeError
from dulwich.file import FileLocked
from dulwich.notes import Notes
from dulwich.object_store import commit_tree_changes, iter_tree_contents, tree_lookup_path
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, SubmoduleEncountered, Tree
from dulwich.refs import DiskRefsContainer, Ref
from dulwich.repo import Repo, UnsupportedExtension, UnsupportedVersion

from loop.errors import BranchMoved, UsageError
from loop.records import git_folder, git_tree, refs
from loop.records.shaped_file import read_shaped
from loop.text import one_line

IDENTITY = b"autoresearch-tui <autoresearch-tui@localhost>"
NOTES = b"refs/notes/autoresearch"
STALE_S = 3.0
"""Age from which a lock on one of our refs or on an object belongs to a killed process."""

CACHE_MOST = 2**20
"""Bytes of objects that are remembered of each opened pack: the usual 96 MB are not for months."""
T = TypeVar("T")


class Repository:
    """One user repository. Writing is safe beside the user's own git commands.

    Several threads may read files: dulwich moves about in one opened pack, so only one reads at a time.
    """

    def __init__(self, folder: Path) -> None:
        """Open the repository whose `.git` lies in `folder`. Raises what dulwich does: use `discover`."""
        self._folder = folder
        self._repo = repo = Repo(str(folder))
        repo.object_store.delta_base_cache_limit = CACHE_MOST
        repo.object_store.fsync_object_files = True  # the journal is durable: what it names must be too
        refs.use(repo)
        self.root = Path(repo.path).resolve()
        self.patience_s = 10.0
        """Seconds that a write waits for a lock of another process. The engine's writer (records/writer.py)
        sets this to 0: it does not wait here, but comes back to the write later."""
        self._reading = threading.RLock()

    @classmethod
    def discover(cls, start: Path) -> Repository:
        """The repository that holds `start`.

        Raises `UsageError` when there is none, when it is bare, when something in the place of a file of
        git's cannot be read like one, when what HEAD is at cannot be understood, and when its working tree
        is elsewhere.
        """
        folder = git_folder.find(start)
        if folder is None:
            raise UsageError(f"{start} is not in a git repository: run `git init` and commit first")
        if odd := git_folder.whats_odd(folder):
            raise UsageError(one_line(f"{odd}: this is no git repository to trust", 1000))
        try:
            found = cls(folder)
            with contextlib.suppress(KeyError):  # before the first commit
                DiskRefsContainer(found._repo.commondir()).get_packed_refs()  # dulwich's own reads each line
                found._repo[found._repo.head()]
        except (
            NotGitRepository,
            UnsupportedVersion,
            UnsupportedExtension,
            OSError,
            *git_tree.BROKEN,
        ) as error:
            what = one_line(str(error) or type(error).__name__, 200)
            raise UsageError(f"cannot read the git repository of {start}: {what}") from error
        if found.root != folder:  # by core.worktree: our files would be written there
            found.close()
            said = f"the settings of {folder / '.git'} say that its files are in {found.root}, not beside it"
            raise UsageError(one_line(said, 1000))
        return found

    def again(self) -> Repository:
        """The same repository, opened once more for another thread, without a new look at all its files."""
        return Repository(self._folder)

    def forget(self) -> None:
        """Close all packs, which grow with each experiment; one that is needed again is opened again."""
        with self._reading:
            self._repo.object_store.close()

    @classmethod
    def at(cls, folder: Path) -> Repository:
        """The repository in `folder`, which is made if there is none. It has no commits but `add`ed ones."""
        if not (folder / ".git" / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # another process makes it in this moment
                Repo.init(str(folder)).close()
        return cls.discover(folder)

    def close(self) -> None:
        self._repo.close()

    # --- reading ---

    def head(self) -> str:
        """The commit HEAD is at. Raises `UsageError` before the first commit."""
        try:
            return self._repo.head().decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.root} has no commit yet: commit train.py first") from error

    def read(self, commit: str, path: str) -> str | None:
        """The text of `path` at `commit`, None when it is not there, or the commit is not there any more.

        Raises `UsageError` when git's objects cannot be read.
        """
        try:
            with self._reading, git_tree.understood(commit):
                tree = self._commit(commit).tree
                mode, sha = tree_lookup_path(self._repo.__getitem__, tree, path.encode())
                blob = self._repo[sha]
        except (KeyError, NotTreeError, SubmoduleEncountered):
            return None
        return blob.data.decode("utf-8", "replace") if isinstance(blob, Blob) and stat.S_ISREG(mode) else None

    def holds(self, name: str) -> bool:
        """Whether a file, folder or link of this name lies at the top of HEAD; False before any commit."""
        with contextlib.suppress(KeyError):
            tree = self._repo[self._commit(self._repo.head().decode()).tree]
            return isinstance(tree, Tree) and name.encode() in tree
        return False

    def files(self, commit: str) -> list[tuple[str, int, bytes]]:
        """Path, mode and blob id of every file of a commit; submodules are left out.

        Raises `UsageError` when they cannot be read, or not be written to a folder without leaving it.
        """
        with self._reading, git_tree.understood(commit, (KeyError,)):
            tree, store = self._commit(commit).tree, self._repo.object_store
            entries = iter_tree_contents(store, tree, include_trees=True)
            # Slots lie below this folder: where .git has a second name, so have their files.
            return git_tree.files(entries, ignores_case=os.path.lexists(self.root / ".GIT"))

    def submodules(self, commit: str) -> list[str]:
        """Paths of the submodules of a commit, which `files` leaves out. Raises `UsageError` like it."""
        with self._reading, git_tree.understood(commit, (KeyError,)):
            entries = iter_tree_contents(self._repo.object_store, self._commit(commit).tree)
            return git_tree.submodules(entries)

    def blob(self, sha: bytes) -> bytes:
        """The content of a file. Raises `UsageError` when it cannot be read."""
        with self._reading, git_tree.understood(sha.decode(), (KeyError,)):
            blob = self._repo[ObjectID(sha)]
        if not isinstance(blob, Blob):
            raise UsageError(f"{sha.decode()} is not a file")
        return blob.data

    def packed(self, commit: str) -> bytes:
        """A commit and all its files, but nothing of its history, for `add` of a repository elsewhere."""
        found = self._commit(commit)
        entries = iter_tree_contents(self._repo.object_store, found.tree, include_trees=True)
        names = {entry.sha for entry in entries if entry.sha and stat.S_IFMT(entry.mode or 0) != 0o160000}
        objects = [found, *(self._repo[name] for name in sorted(names))]
        return zlib.compress(msgspec.msgpack.encode([(o.type_num, o.as_raw_string()) for o in objects]))

    def resolve(self, ref: str) -> str | None:
        """The commit a ref is at, None when there is no such ref."""
        try:
            return self._repo.refs[Ref(ref.encode())].decode()
        except KeyError:
            return None

    def tags(self) -> list[str]:
        """Tags of the runs that have a branch here."""
        prefix = b"refs/heads/autoresearch/"
        return [name.decode() for name in self._repo.refs.subkeys(Ref(prefix))]

    def checked_out(self, branch: str) -> Path | None:
        """The working tree that has `branch` checked out, None when no one has."""
        control = Path(self._repo.commondir()).resolve()
        heads = [(control / "HEAD", control.parent if control.name == ".git" else self.root)]
        for gitdir in control.glob("worktrees/*/gitdir"):
            heads.append((gitdir.with_name("HEAD"), Path(_line_in(gitdir)).parent))
        return next((tree for head, tree in heads if _line_in(head) == f"ref: refs/heads/{branch}"), None)

    # --- history ---

    def branch(self, name: str) -> str | None:
        """The commit that a branch is at, here or as it was fetched; None when there is none."""
        remotes = {ref.split("/")[2] for ref in self._refs("refs/remotes/")}
        folders = ("heads", *(f"remotes/{remote}" for remote in sorted(remotes)))
        found = (self.resolve(f"refs/{folder}/{name}") for folder in folders)
        return next((commit for commit in found if commit and self._is_commit(commit)), None)

    def commits(self, abbreviation: str) -> list[str]:
        """The commits whose names begin with these hex digits, whether or not a branch still holds them."""
        if not abbreviation:
            return []
        found = self._repo.object_store.iter_prefix(abbreviation.encode())
        return [name for sha in found if self._is_commit(name := sha.decode())]

    def parents(self, commit: str) -> list[str]:
        """The commits that this one was made of."""
        return [parent.decode() for parent in self._commit(commit).parents]

    def time(self, commit: str) -> float:
        """When a commit was made, in seconds since the epoch."""
        return float(self._commit(commit).commit_time)

    def history(self, commit: str, most: int) -> Iterator[str]:
        """A commit, its first parent and so on, at most so many; a shallow clone has only the newest."""
        at: str | None = commit
        while at is not None and most > 0 and self._is_commit(at):
            yield at
            at, most = next(iter(self.parents(at)), None), most - 1

    def _refs(self, prefix: str) -> list[str]:
        return [prefix + name.decode() for name in self._repo.refs.subkeys(Ref(prefix.encode()))]

    def _is_commit(self, name: str) -> bool:
        with contextlib.suppress(KeyError):
            return isinstance(self._repo[ObjectID(name.encode())], Commit)
        return False

    # --- writing ---

    def commit(self, parent: str, path: str, text: str, message: str) -> str:
        """A commit on `parent` in which only `path` differs; nothing refers to it yet."""

        def write() -> str:
            store = self._repo.object_store
            blob = Blob.from_string(text.encode())
            store.add_object(blob)
            tree = self._repo[self._commit(parent).tree]
            mode, _ = tree_lookup_path(self._repo.__getitem__, tree.id, path.encode())
            commit = Commit()
            commit.tree = commit_tree_changes(store, tree.id, [(path.encode(), mode, blob.id)])
            commit.parents = [ObjectID(parent.encode())]
            commit.author = commit.committer = IDENTITY
            commit.author_time = commit.commit_time = int(time.time())
            commit.author_timezone = commit.commit_timezone = 0
            commit.encoding = b"UTF-8"
            commit.message = message.encode()
            store.add_object(commit)
            return commit.id.decode()

        return self._retry(write)

    def add(self, packed: bytes) -> None:
        """Take in a commit that `packed` of another repository gave. Each object is named by its content."""
        objects = msgspec.msgpack.decode(zlib.decompress(packed), type=list[tuple[int, bytes]])
        store = self._repo.object_store
        for made in [ShaFile.from_raw_string(kind, content) for kind, content in reversed(objects)]:
            if made.id not in store:  # the commit comes last: where it is, its files are
                self._retry(partial(store.add_object, made))

    def set_ref(self, ref: str, commit: str) -> None:
        """Point `ref` at `commit`, wherever it pointed before; for refs that nobody else moves."""

        self._check_own(ref)

        def write() -> None:
            if self.resolve(ref) != commit:
                self._repo.refs[Ref(ref.encode())] = ObjectID(commit.encode())

        self._retry(write)

    def keep_candidate(self, tag: str, n: int, commit: str) -> None:
        """Point candidate `n`'s ref at `commit`; an earlier attempt at it stays reachable as `0007-1`."""
        ref = candidate_ref(tag, n)
        before = self.resolve(ref)
        if before and before != commit:
            attempt = next(k for k in range(1, 1000) if self.resolve(f"{ref}-{k}") in (None, before))
            self.set_ref(f"{ref}-{attempt}", before)
        self.set_ref(ref, commit)

    def advance(self, branch: str, old: str | None, new: str) -> None:
        """Move a branch from `old` to `new`; nothing happens if it is at `new` already.

        Raises `BranchMoved` when it is anywhere else.
        """
        ref = Ref(b"refs/heads/" + branch.encode())
        self._check_own(ref.decode())

        def write() -> bool:
            if old is None:
                return self._repo.refs.add_if_new(ref, ObjectID(new.encode()))
            return self._repo.refs.set_if_equals(ref, ObjectID(old.encode()), ObjectID(new.encode()))

        now = self.resolve(ref.decode())
        if now != new and (now != old or not self._retry(write)):
            at = (self.resolve(ref.decode()) or "nothing")[:7]
            raise BranchMoved(
                f"branch {branch} is at {at}, not at {(old or 'nothing')[:7]} where this run left it: "
                "put it back, or start another --tag"
            )

    def note(self, commit: str, text: str) -> None:
        """Attach a git note to a commit (`git log --notes=autoresearch`)."""
        self._check_own(NOTES.decode())

        def write() -> None:
            Notes(self._repo.object_store, self._repo.refs).set_note(
                commit.encode(), text.encode(), notes_ref=NOTES, author=IDENTITY, committer=IDENTITY
            )

        self._retry(write)

    def clear_stale_locks(self, tag: str) -> list[Path]:
        """Remove lock files that a killed engine left on refs of ours and on objects.

        Younger ones may belong to a git command that runs now; if they do not, whoever meets them next
        waits until they are old enough.
        """
        control = Path(self._repo.commondir())
        names = [
            control / f"refs/heads/autoresearch/{tag}.lock",
            control / "refs/notes/autoresearch.lock",
            *control.glob(f"refs/autoresearch/{tag}/*.lock"),
            *control.glob("objects/[0-9a-f][0-9a-f]/*.lock"),
        ]
        gone = []
        for lock in names:
            if _unlock(lock):
                gone.append(lock)
        return gone

    def _check_own(self, ref: str) -> None:
        """Raise `UsageError` where one of our refs only names another one: that would be written."""
        if (self._repo.refs.read_loose_ref(Ref(ref.encode())) or b"").startswith(b"ref:"):
            raise UsageError(f"{ref} leads to another ref: remove it with `git symbolic-ref -d {ref}`")

    def _retry(self, action: Callable[[], T]) -> T:
        """Run `action` again while another git process (gc, the user's commit) holds a lock.

        gc also removes a folder of objects that is empty, just before something is written there. A lock that
        a killed engine left would stay for ever: it goes when it is old. Raises BlockingIOError, and
        FileNotFoundError, after `patience_s`.
        """
        deadline, wait = time.monotonic() + self.patience_s, 0.01
        while True:
            try:
                return action()
            except FileNotFoundError:
                if time.monotonic() >= deadline:
                    raise
            except FileLocked as error:
                lock = Path(os.fsdecode(error.lockfilename))
                if _unlock(lock):
                    continue
                if time.monotonic() >= deadline:
                    raise BlockingIOError(errno.EAGAIN, "locked by another process", str(lock)) from error
            time.sleep(wait)
            wait = min(wait * 2, 0.5)

    def _commit(self, commit: str) -> Commit:
        found = self._repo[ObjectID(commit.encode())]
        if not isinstance(found, Commit):
            raise ValueError(f"{commit} is not a commit")
        return found


def candidate_ref(tag: str, n: int) -> str:
    return f"refs/autoresearch/{tag}/{n:04d}"


def branch_of(tag: str) -> str:
    return f"autoresearch/{tag}"


def _line_in(file: Path) -> str:
    """What stands in a small file of git's; empty when it is none."""
    return os.fsdecode(read_shaped(file, 65536) or b"").strip()


def _unlock(lock: Path) -> bool:
    """Remove a lock file that is older than `STALE_S`: a living writer holds one for milliseconds only."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > STALE_S:
            lock.unlink()
            return True
    return False
