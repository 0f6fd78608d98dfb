"""The executor for this machine: trainings run here, each seat in a slot and behind a fence of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import psutil
from msgspec import Struct

from loop import events as ev
from loop.config import Settings
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import Fence, Spec
from loop.training import compile_cache, evaluation, fence, prepare, selftest, slot, supervisor
from loop.training.executor import Ended, Job, Lost, Machine, Show
from loop.training.programs import group, leftovers
from loop.training.seats import MEMORY_SHARE, Seat, capacity, share, warning
from loop.training.supervisor import KEY, Standby, Supervisor

P = ParamSpec("P")
T = TypeVar("T")


class _UnderWay(Struct):
    """A training that `start` has started or found, until `follow` has returned its end."""

    supervisor: Supervisor | None
    """None once the training has ended."""
    data_before: dict[str, slot.Signature]
    """The training data before the training, where no fence protects it."""

    def goes_on(self) -> bool:
        return self.supervisor is not None and self.supervisor.lives()


class _Seat:
    """One place to train."""

    def __init__(self, paths: RunPaths, number: int, share: Seat) -> None:
        self.share = share
        """What of this machine belongs to it."""
        self.slot = slot.Slot(paths.slot(number))
        self.frozen = slot.Slot(paths.frozen(number))
        """The same files once more, out of the trainer's reach: the saved model is loaded with them."""
        self.scratch = paths.scratch(number)
        """Temporary files and the home folder of the training in this seat."""
        self.answerers = [paths.scratch(f"{number}-claimant"), paths.scratch(f"{number}-witness")]
        """The same for the two processes that answer the judge."""
        self.lock = paths.folder / f"slot-{number}.lock"
        """File that is locked while a training runs here, whichever engine started it."""
        self.busy = asyncio.Lock()
        """Held by this engine while it writes to the slot or starts a training in it."""
        self.standby: Standby | None = None
        """The next training's supervisor, started while this one trains: starting Python takes a while."""
        self.ahead: asyncio.Task[None] | None = None
        """Makes the folder of the next training while this one trains."""


class LocalExecutor:
    """Runs trainings in `.autoresearch/<tag>/slots/<seat>` on this machine."""

    def __init__(
        self,
        settings: Settings,
        paths: RunPaths,
        repository: Repository,
        seats: int | None = None,
        *,
        leased: bool = False,
    ) -> None:
        """`seats` is how many trainings may run at once; None: as the settings say. `leased`: trainings end
        when this process does, and it is to start one training only.

        Raises `UsageError` when the settings require a fence or seats that this machine does not have.
        """
        self._settings, self._paths = settings, paths
        # It is read in other threads, so it needs file handles of its own.
        self._repository = repository.again()
        self._capacity = seats or capacity(settings, os.environ)
        # Others have the other seats where a training is leased: they are none of this object's business.
        self._seats = {n: self._new_seat(n) for n in range(0 if leased else self._capacity)}
        self._support = fence.choose(settings.sandbox)
        self._command = prepare.train_command(settings, paths)
        self._uv = prepare.uv_environment(settings.train_command, paths.venv)
        self._data = fence.data_folders(os.environ, settings.data)
        self._reading = asyncio.Lock()
        """Held while a thread reads from the repository, which only one may do at a time."""
        self._compiling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By commit: held while its compile cache is filled. Another seat with this commit waits for it."""
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._under_way: dict[str, _UnderWay] = {}
        self._leased = leased
        self._leases: list[Standby] = []
        """Each keeps the pipe open on which a leased training depends."""

    def describe(self) -> Sequence[Machine]:
        strength = "off" if self._support is None else str(self._support)
        names = dict.fromkeys(seat.share.gpu.name for seat in self._seats.values() if seat.share.gpu)
        return [Machine(platform.node(), self._capacity, ", ".join(filter(None, names)), strength)]

    def capacity(self) -> int:
        return self._capacity

    async def prepare(self, commit: str, show: Show) -> None:
        async with self._preparing:
            if not self._prepared and prepare.is_needed(self._settings):
                place = slot.Slot(self._paths.slot("prepare"))
                await self._read(place.export, commit)
                variables = {KEY: f"{self._paths.identity}-prepare"}
                facts = await prepare.everything(self._settings, self._paths, place.folder, show, variables)
                await selftest.before_training(
                    self._settings, self._paths, self._repository, commit, facts, show
                )
            if not self._prepared and (crowded := warning(self._capacity)):
                show(ev.Notice("warning", crowded))
            self._prepared = True

    async def start(self, job: Job) -> str:
        seat = self._seat(job)
        async with seat.busy:  # whoever starts the same training a second time finds the first
            known = self._under_way.get(job.key)
            if known is None or not known.goes_on():
                before = await self._inventory() if known is None else known.data_before
                self._under_way[job.key] = _UnderWay(await self._start_or_find(seat, job), before)
            if seat.standby is None and not self._leased and self._under_way[job.key].supervisor:
                with contextlib.suppress(OSError):  # a training without the next one's supervisor is as good
                    seat.standby = Standby(seat.lock, seat.share.settle)
                seat.ahead = seat.ahead or asyncio.create_task(self._prepare_slot(seat, job.commit))
        return platform.node()

    def _seat(self, job: Job) -> _Seat:
        """The training's seat. An earlier engine may have had more of them than this one."""
        if job.seat not in self._seats:
            self._seats[job.seat] = self._new_seat(job.seat)
        return self._seats[job.seat]

    def _new_seat(self, number: int) -> _Seat:
        return _Seat(self._paths, number, share(number, self._capacity, os.environ))

    async def _inventory(self) -> dict[str, slot.Signature]:
        """How the training data looks, where the fence does not keep trainings from changing it."""
        if self._support is None or not self._support.protects_files:
            return await _in_thread(slot.inventory, self._data)
        return {}

    async def _start_or_find(self, seat: _Seat, job: Job) -> Supervisor | None:
        """The training's supervisor, new or found again; None when the training has ended already."""
        living = await supervisor.locate(job.folder, seat.lock)
        if living or not _interrupted(job):
            return living
        await _in_thread(supervisor.end_orphans, job.folder)
        if not job.folder.has_trained(job.commit):  # else what it has changed is still to be seen
            await self._export(seat, job.commit)
            await _in_thread(leftovers.remove, job.folder.out)  # an earlier attempt may have left much
        await self._compile(seat, job)
        if self._settings.judge_command:
            await self._read(seat.frozen.export, job.commit)
        spec = await _in_thread(self._spec, seat, job)
        standby, seat.standby = seat.standby, None
        if standby:
            with contextlib.suppress(BrokenPipeError):  # it has been killed: a new one will do
                return standby.start(job.folder, spec)
        standby = Standby(seat.lock, seat.share.settle)
        if self._leased:
            self._leases.append(standby)
        return standby.start(job.folder, spec)

    async def _export(self, seat: _Seat, commit: str) -> None:
        """Give the seat a new slot with the files of the commit. Raises OSError."""
        if seat.ahead:
            seat.ahead.cancel()  # it may be waiting for its second look; what is left of it is done here
            await asyncio.gather(seat.ahead, return_exceptions=True)
            seat.ahead = None
        await _in_thread(seat.slot.renew)
        await self._read(seat.slot.export, commit)

    async def _prepare_slot(self, seat: _Seat, commit: str) -> None:
        """Make the folder of the seat's next training, and look at it once more when it has settled: files
        that were checked then are not read again at the start."""
        for pause_s in (0.0, 2 * slot.SETTLED_NS / 1e9):
            await asyncio.sleep(pause_s)
            await self._read(seat.slot.prepare, commit)

    async def _read(self, fill: Callable[[Repository, str], None], commit: str) -> None:
        """Fill a folder with files of the commit, in a thread. Raises OSError."""
        async with self._reading:
            await _in_thread(fill, self._repository, commit)

    async def _compile(self, seat: _Seat, job: Job) -> None:
        """Fill the commit's compile cache by a dry run in the seat, where that is wanted and not done yet."""
        if self._support is None or job.folder.has_trained(job.commit):
            return
        async with self._compiling[job.commit]:
            if not compile_cache.needs_dry_run(self._settings, self._paths, job.commit):
                return
            spec = await _in_thread(self._spec, seat, job)
            await compile_cache.dry_run(
                self._paths, job.commit, spec, self._data[0], seat.scratch, seat.lock, self._capacity
            )
        await self._export(seat, job.commit)

    async def follow(self, job: Job) -> Ended | Lost:
        training = self._under_way[job.key]
        if training.supervisor:
            await supervisor.ended(training.supervisor)
            training.supervisor = None
        found = await self._outcome(job, training.data_before)
        if self._under_way.get(job.key) is training:  # else it was started anew meanwhile
            del self._under_way[job.key]
        return found

    async def _outcome(self, job: Job, data_before: dict[str, slot.Signature]) -> Ended | Lost:
        """How a training went whose supervisor is gone."""
        after = await _in_thread(slot.inventory, self._data) if data_before else {}
        changed_data = next((path for path, at in data_before.items() if after.get(path) != at), "")
        found = job.folder.read_exit(job.commit)
        if found is None or _interrupted(job):
            await _in_thread(supervisor.end_orphans, job.folder)
            return Lost(found.reason if found else "its supervisor was killed", changed_data)
        in_slot = self._seat(job).slot
        async with self._reading:
            changed = await _in_thread(in_slot.changed, self._repository, job.commit, job.editable)
        return Ended(found, [*changed, changed_data] if changed_data else changed, changed_data)

    async def stop(self, job: Job) -> None:
        training = self._under_way.get(job.key)
        # One that is not known runs all the same when `start` was cancelled after it was found.
        living = training.supervisor if training else supervisor.find(job.folder)
        if living:
            await supervisor.stop(job.folder, living)

    async def sweep(self, known: Collection[str]) -> int:
        return await _in_thread(supervisor.sweep, self._paths.identity, known)

    def processes(self) -> list[int]:
        return [found.supervisor.pid for found in self._under_way.values() if found.supervisor]

    async def close(self) -> None:
        for seat in self._seats.values():
            if seat.standby:
                seat.standby.dismiss()
                seat.standby = None
            if seat.ahead:
                seat.ahead.cancel()
                await asyncio.gather(seat.ahead, return_exceptions=True)
                seat.ahead = None
            if supervisor.is_free(seat.lock):
                for folder in (seat.scratch, *seat.answerers, *map(Path, seat.slot.left())):
                    with contextlib.suppress(OSError):
                        await _in_thread(leftovers.remove, folder)
        await _in_thread(group.end_abandoned)  # those of the last supervisors
        self._repository.close()

    # --- what a training is given ---

    def _spec(self, seat: _Seat, job: Job) -> Spec:
        settings = self._settings
        scratch = [seat.scratch, *seat.answerers] if self._support is not None else []
        shared = [] if compile_cache.is_private(settings) or not scratch else [self._paths.compiled]
        environment = fence.environment(os.environ, self._variables(seat, job))
        return Spec(
            command=self._command,
            cwd=str(seat.slot.folder),
            env=environment,
            log=str(job.folder.log),
            exit=str(job.folder.exit),
            supervisor=str(job.folder.supervisor),
            timeout_s=settings.timeout,
            memory_gb=self._memory_gb(),
            commit=job.commit,
            key=job.key,
            clock=environment.get("AUTORESEARCH_CLOCK", ""),
            fence=self._fence(seat, job),
            disk_gb=settings.disk_gb,
            folders=[str(folder) for folder in (seat.slot.folder, job.folder.out, *scratch, *shared)],
            remove=[str(seat.scratch)] if self._support is not None else [],
            saved=[str(file) for file in job.folder.saved()],
            discard=seat.slot.left(),
            trained=str(job.folder.trained),
            lease=self._leased,
            judge=evaluation.judge(
                settings,
                self._support,
                folder=job.folder,
                frozen=seat.frozen.folder,
                scratch=seat.answerers,
                variables={KEY: job.key, **prepare.uv_offline(self._uv), **seat.share.variables()},
                narrow=seat.share.narrowed,
                read=list(self._uv.values()),
                reference=job.reference,
            ),
        )

    def _variables(self, seat: _Seat, job: Job) -> dict[str, str]:
        """Environment variables for one training; the folders that they name are created."""
        variables = {
            "AUTORESEARCH_BUDGET_S": f"{job.budget_s:g}",
            "AUTORESEARCH_SEED": str(job.seed),
            "AUTORESEARCH_MODEL_FILE": str(job.folder.model),
            KEY: job.key,
            **prepare.uv_offline(self._uv),
            **seat.share.variables(),
        }
        if self._support is not None:
            variables |= fence.make_fresh_folders(
                seat.scratch,
                cache=self._cache(seat),
                data=self._data,
                environ=os.environ,
                network=self._settings.network,
            )
            if compile_cache.is_private(self._settings):
                compile_cache.give(self._paths, job.commit, seat.scratch)
        return variables

    def _memory_gb(self) -> float:
        """Memory that one training may use."""
        return self._settings.memory_gb or _machine_gb() * MEMORY_SHARE / self._capacity

    def _cache(self, seat: _Seat) -> Path:
        """Where a training in the seat has what compilers keep."""
        private = compile_cache.is_private(self._settings)
        return compile_cache.private(seat.scratch) if private else self._paths.compiled

    def _fence(self, seat: _Seat, job: Job) -> Fence:
        settings = self._settings
        write: list[Path] = [seat.slot.folder, seat.scratch, self._cache(seat), job.folder.out]
        built = fence.build(
            self._support,
            os.environ,
            command=self._command,
            data=self._data,
            write=write,
            read=[*settings.sandbox_read, *self._uv.values()],
            slot=seat.slot.folder,
            network=settings.network,
            file_bytes=int(settings.disk_gb * 2**30),
            memory_bytes=int(self._memory_gb() * 2**30),
            held_out=settings.held_out,
            # A trainer that measures itself, such as karpathy/autoresearch's, has to read held-out text.
            cache=self._data[0] if settings.judge_command else None,
        )
        return seat.share.narrowed(built)


def _interrupted(job: Job) -> bool:
    """The training has no end of its own: it was killed from outside, or the judge did not do its work."""
    found = job.folder.read_exit(job.commit)
    if found is None or found.judge_failed:
        return True
    return found.exit_code == -signal.SIGKILL and found.outcome == "crashed"


def _machine_gb() -> float:
    return psutil.virtual_memory().total / 2**30


async def _in_thread(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Do work that blocks in a thread. When this is cancelled, it waits for the end of the work first.

    A thread cannot be ended: what it writes must not be touched by anybody else before it is done.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.gather(doing, return_exceptions=True)
        raise
