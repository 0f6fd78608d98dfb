"""The executor for a Ray cluster: each training is a detached actor with the resources of one seat.

The actor carries out an order (training/remote) and outlives the engine and its helper; a new engine finds it
by the name of the attempt. Only Ray's word that an actor has died makes a training `Lost`: a cluster that
cannot be reached is waited for. An actor holds its GPU until it is ended, so it is ended once everything that
it left is on this disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import platform
import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from loop import __version__
from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.training import prepare
from loop.training.executor import Ended, Job, Lost, Machine, PrepareFailed, Show
from loop.training.ray.link import DESCRIBE_S, Link, Unavailable
from loop.training.remote import mirror, order
from loop.training.remote.mirror import Gone, News, Refused
from loop.training.remote.node import Description, name_of_place

RETRY_S = 2.0
"""Pause between two attempts to reach a cluster that cannot be reached."""
POLL_S = 10.0
"""How long a request for news waits for some."""
LOOK_S = 15.0
"""How often the cluster's machines are looked at: they come and go."""


class _Place(Struct, frozen=True):
    """A machine of the cluster that has seats."""

    node: str
    """Ray's name for it."""
    host: str
    seats: int
    gpu: str
    fence: str


class RayExecutor:
    """Runs trainings on the machines of a Ray cluster, one for each GPU. Where there is none, a training gets
    as many processors as the smallest machine has."""

    def __init__(
        self, settings: Settings, paths: RunPaths, repository: Repository, seats: int | None = None
    ) -> None:
        """`seats`: how many trainings may run at once; None: as many as the cluster has room for.

        Raises `UsageError` when the cluster cannot be used; within some 10 s where it does not answer.
        """
        self._settings, self._paths = settings, paths
        self._repository = repository.again()  # it is read in other threads
        self._most = seats
        self._run = order.run_name(paths)
        self._session = secrets.token_hex(8)
        self._link = Link(
            settings.ray_python,
            settings.ray_address,
            f"autoresearch-tui-{self._run}",
            paths.folder / "ray.log",
        )
        self._known: dict[str, Description] = {}
        self._options: dict[str, float] = {}
        """Resources of a training, decided once: a run does not go from GPUs to processors."""
        self._model: str | None = None
        """The model of the GPUs that trainings run on; None before it is known."""
        self._places: list[_Place] = []
        self._preparing = asyncio.Lock()
        self._prepared = set[str]()
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One for each attempt: it is held by whoever fetches what the attempt prints and leaves."""
        self._stopped = set[str]()
        self._left = set[str]()
        """Attempts whose actors are still to be ended."""
        self._pids: dict[str, int] = {}
        self._looking: asyncio.Task[None] | None = None
        try:
            self._link.open()
            self._look_first()
        except UsageError:
            self._link.abandon()
            raise

    # --- the machines ---

    def describe(self) -> Sequence[Machine]:
        left, found = self.capacity(), dict[str, Machine]()
        for place in self._places:
            before = found.get(place.host)
            seats = min(left, place.seats)
            left -= seats
            if seats:
                seats += before.seats if before else 0
                found[place.host] = Machine(place.host, seats, place.gpu, place.fence)
        return list(found.values())

    def capacity(self) -> int:
        room = sum(place.seats for place in self._places)
        return room if self._most is None else min(room, self._most)

    def _look_first(self) -> None:
        """Look at the cluster's machines before anything trains there. Raises `UsageError`."""
        nodes = self._link.ask_now([("nodes", {})], DESCRIBE_S)[0]["nodes"]
        self._share_out(nodes)
        asked = [("describe", self._of_machine(place.node)) for place in self._places]
        for place, said in zip(self._places, self._link.ask_now(asked, DESCRIBE_S), strict=True):
            if said["code"] >= 0:
                self._known[place.node] = self._description(place.host, said["code"], said["output"])
        self._share_out([node for node in nodes if node["id"] in self._known])
        if not self._places:
            raise UsageError(
                "the Ray cluster has no machine to train on: add one with "
                "`ray start --address=HOST:PORT`, with --num-gpus=N if its GPUs are not found"
            )
        models = sorted({place.gpu for place in self._places if place.gpu})
        if len(models) > 1:
            raise UsageError(
                f"the Ray cluster mixes GPUs ({', '.join(models)}), whose numbers cannot be compared: "
                "use one with a single model"
            )
        self._model = models[0] if models else ""

    def _of_machine(self, node: str) -> dict[str, Any]:
        return {"node": node, "python": self._settings.node_python}

    def _description(self, host: str, code: int, output: str) -> Description:
        """What a machine said of itself. Raises `UsageError` when trainings cannot run there."""
        lines = output.strip().splitlines() or ["it said nothing"]
        if code != 0:
            raise UsageError(
                f"{host} cannot train: {lines[-1][:200]}; install autoresearch-tui {__version__} there, or "
                "set `node_python`"
            )
        found = msgspec.json.decode(lines[-1], type=Description)
        if found.version != __version__:
            raise UsageError(
                f"{host} has autoresearch-tui {found.version}, and this is {__version__}: install the same"
            )
        if self._settings.sandbox == "require" and found.fence != "full":
            raise UsageError(
                f"--sandbox require, but {host} gives: {found.fence}; use a newer Linux kernel (6.12) there"
            )
        return found

    def _share_out(self, nodes: list[dict[str, object]]) -> None:
        """Say from Ray's list of machines what a seat is, and how many there are where."""
        machines = [msgspec.convert(node, _Node) for node in nodes]
        if not self._options:
            gpus = any(machine.resources.get("GPU", 0) >= 1 for machine in machines)
            cores = [m.resources["CPU"] for m in machines if m.resources.get("CPU", 0) >= 1]
            self._options = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": min(cores, default=1.0)}
        unit, each = ("GPU", 1.0) if "num_gpus" in self._options else ("CPU", self._options["num_cpus"])
        self._places = []
        for machine in sorted(machines, key=lambda machine: (machine.host, machine.id)):
            known = self._known.get(machine.id, Description(machine.host, __version__, "none"))
            strength = "off" if self._settings.sandbox == "off" else known.fence
            alike = self._model in (None, known.gpu)
            if alike and (seats := int(machine.resources.get(unit, 0) // each)):
                self._places.append(_Place(machine.id, machine.host, seats, known.gpu, strength))

    async def _look(self) -> None:
        """Look at the machines now and then. A new one has seats once it has described itself."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Unavailable, Gone):
                nodes = (await self._link.ask("nodes"))[0]["nodes"]
                for node in [node for node in nodes if node["id"] not in self._known]:
                    asked = self._of_machine(node["id"])
                    said, _ = await self._link.ask("describe", patience_s=DESCRIBE_S, **asked)
                    with contextlib.suppress(UsageError):  # it has no seats, then, and is asked again
                        known = self._description(node["host"], said["code"], said["output"])
                        self._known[node["id"]] = known
                self._share_out([node for node in nodes if node["id"] in self._known])
                for key in list(self._left):
                    await self._let_go(key)

    # --- data ---

    async def prepare(self, commit: str, show: Show) -> None:
        """Each machine makes the data once for this engine; later ones do before their first training."""
        uses_uv = bool(prepare.uv_environment(self._settings.train_command, self._paths.venv))
        has_gpus = any(place.gpu for place in self._places)  # which are tested first
        if not (self._settings.prepare_command or uses_uv or has_gpus):
            return
        async with self._preparing:
            new = [place for place in self._places if place.node not in self._prepared]
            if not new:
                return
            said = _Said(show)
            said.show("preparing data")
            objects = await asyncio.to_thread(self._repository.packed, commit)
            try:
                await asyncio.gather(*(self._prepare(place, commit, objects, said) for place in new))
            except Unavailable as error:
                raise OSError(errno.EAGAIN, str(error), "the Ray cluster") from error
            finally:
                show(ev.Preparing(""))
            self._prepared |= {place.node for place in new}

    async def _prepare(self, place: _Place, commit: str, objects: bytes, said: _Said) -> None:
        """Let one machine make the data. Raises `PrepareFailed` and `Unavailable`."""
        key = f"prepare-{self._session}-{place.node}"
        told = order.to_prepare(
            self._settings,
            commit,
            run=self._run,
            session=self._session,
            root=self._settings.node_folder,
            key=key,
        )
        files = order.parcel(told, objects, None)
        source = _Source(self._link, key)
        try:
            await self._begin(key, files, {"num_cpus": 0, "node": place.node})
            offset, ended = 0, False
            while not ended:
                news = await source.news(offset)
                offset, ended = offset + len(news.log), news.ended
                for line in news.log.decode("utf-8", "replace").splitlines():
                    said.show(line)
            report = msgspec.json.decode(await source.read("report.json", 0), type=order.Report)
        except Gone:
            return  # if it comes back, it prepares before its first training
        await self._end(key)
        if report.refused or report.lost:
            where = f" on {place.host}" if len({place.host for place in self._places}) > 1 else ""
            raise PrepareFailed(f"{report.refused or 'preparing the data was stopped'}{where}")

    # --- trainings ---

    async def start(self, job: Job) -> str:
        self._looking = self._looking or asyncio.create_task(self._look())
        if mirror.end_of(job) and (note := mirror.read_note(job)):
            return note.place
        self._stopped.discard(job.key)
        self._left.discard(job.key)
        objects = await asyncio.to_thread(self._repository.packed, job.commit)
        told = order.for_job(
            self._settings,
            job,
            run=self._run,
            session=self._session,
            share=max((machine.seats for machine in self.describe()), default=1),
            root=self._settings.node_folder,
        )
        reference = job.reference.read_bytes() if job.reference and job.reference.exists() else None
        try:
            begun = await self._begin(job.key, order.parcel(told, objects, reference), self._options)
        except Gone:
            begun = _Begun(start="", host="")  # `follow` will say why
        except Unavailable as error:
            raise OSError(errno.EAGAIN, str(error), "the Ray cluster") from error
        place = name_of_place(begun.host, {"CUDA_VISIBLE_DEVICES": begun.gpus})
        mirror.begin(job, begun.start, place)
        if begun.host == platform.node():
            self._pids[job.key] = begun.pid
        return place

    async def _begin(
        self, key: str, files: dict[str, bytes], options: dict[str, object] | dict[str, float]
    ) -> _Begun:
        """Let an actor carry out an order. Raises `Gone` and `Unavailable`."""
        answer, _ = await self._link.ask(
            "begin",
            b"".join(files.values()),
            key=key,
            files={name: len(content) for name, content in files.items()},
            python=self._settings.node_python,
            root=self._settings.node_folder,
            options=options,
        )
        if answer.get("waiting"):
            what = "GPU" if "num_gpus" in options else "processor"
            raise Unavailable(f"no {what} of the cluster is free for {key}: others use them")
        return msgspec.convert(answer, _Begun)

    async def follow(self, job: Job) -> Ended | Lost:
        async with self._locks[job.key]:
            if ended := mirror.end_of(job):
                await self._let_go(job.key)
                return ended
            found = await self._fetched(job)
            await self._let_go(job.key)
        return found

    async def _fetched(self, job: Job) -> Ended | Lost:
        """How a training ended, once everything that it left is here. Raises OSError."""
        source = _Source(self._link, job.key)
        while True:
            try:
                return await mirror.fill(job, source)
            except Gone as error:
                return Lost(str(error))
            except Refused as error:
                await self._let_go(job.key)
                raise OSError(errno.EREMOTEIO, str(error), "the Ray cluster") from error
            except Unavailable as error:
                if job.key in self._stopped:
                    return Lost(str(error))
                await asyncio.sleep(RETRY_S)

    async def _let_go(self, key: str) -> None:
        """End an actor that is not needed any more; where that fails now, it is tried again later."""
        self._pids.pop(key, None)
        self._left.add(key)
        with contextlib.suppress(Unavailable, Gone):
            await self._end(key)
            self._left.discard(key)

    async def _end(self, key: str) -> bool:
        """End an actor with its training; returns whether that was still under way."""
        answer, _ = await self._link.ask("end", key=key)
        return bool(answer["under_way"])

    async def stop(self, job: Job) -> None:
        self._stopped.add(job.key)
        with contextlib.suppress(Gone, Unavailable):
            await self._link.ask("stop", key=job.key)
        if not self._locks[job.key].locked():
            await self._let_go(job.key)

    async def sweep(self, known: Collection[str]) -> int:
        killed = 0
        with contextlib.suppress(Unavailable, Gone):
            names = (await self._link.ask("names"))[0]["names"]
            for name in set(names) - set(known):
                killed += await self._end(name)
        return killed

    def processes(self) -> list[int]:
        return list(self._pids.values())

    async def close(self) -> None:
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._link.close()
        self._repository.close()


class _Node(Struct, frozen=True):
    """A machine in Ray's list."""

    id: str
    host: str
    resources: dict[str, float]


class _Begun(Struct, frozen=True):
    """What an actor says when it has been given an order (worker.py)."""

    start: str
    host: str
    pid: int = 0
    gpus: str = ""


class _Said:
    """Shows what several machines say while they prepare data; what was shown last is not shown again."""

    def __init__(self, show: Show) -> None:
        self._show, self._last = show, ""

    def show(self, line: str) -> None:
        if line != self._last:
            self._last = line
            self._show(ev.Preparing(line))


class _Source:
    """Reads the order's folder of one actor. Raises `Gone` and `Unavailable`."""

    def __init__(self, link: Link, key: str) -> None:
        self._link, self._key = link, key

    async def news(self, offset: int) -> News:
        answer, log = await self._link.ask("news", key=self._key, offset=offset, wait_s=POLL_S)
        return News(log, answer["ended"])

    async def read(self, name: str, offset: int) -> bytes:
        return (await self._link.ask("read", key=self._key, name=name, offset=offset))[1]
