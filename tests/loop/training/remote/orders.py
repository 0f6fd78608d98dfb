"""An order in a folder, as another machine gets it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from loop import config
from loop.config import Settings
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.training.executor import Job
from loop.training.remote import order
from loop.training.remote.order import Order, OrderFolder
from tests.conftest import TRAINER


class Orders:
    """Makes orders of one research repository, and what an engine knows of them."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder, self.repository = folder, Repository.discover(root)

    def settings(self, **flags: object) -> Settings:
        head = self.repository.head()
        trusted = config.described()
        return config.load(self.repository, head, flags, {"PATH": os.environ["PATH"]}, trusted)

    def job(self, *, code: str = "", budget_s: float = 0.2, n: int = 1) -> Job:
        """A training of the small trainer, with other code before it."""
        head = self.repository.head()
        commit = self.repository.commit(head, "train.py", code + TRAINER, "m") if code else head
        folder = TrainingFolder(self.folder / f"here-{n}")
        return Job(f"{self.folder.name}-{n}-1-1", n, 1, commit, 1337, budget_s, 0, folder, "train.py")

    def write(
        self, job: Job, *, version: str = "", only_prepare: bool = False, **flags: object
    ) -> OrderFolder:
        """The folder of an order to train a job."""
        told = self.order(job, **flags)
        told = msgspec.structs.replace(told, version=version or told.version, only_prepare=only_prepare)
        folder = OrderFolder(self.folder / job.key)
        folder.folder.mkdir()
        for name, content in order.parcel(told, self.repository.packed(job.commit), None).items():
            (folder.folder / name).write_bytes(content)
        return folder

    def order(self, job: Job, **flags: object) -> Order:
        root = str(self.folder / "root")
        return order.for_job(self.settings(**flags), job, run="run", session="session", share=2, root=root)
