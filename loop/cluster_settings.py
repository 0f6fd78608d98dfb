"""The settings about where trainings run: on this machine, on a Ray cluster, or through Slurm."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from loop.setting import about


class ClusterSettings(msgspec.Struct, frozen=True):
    """The part of `loop.config.Settings` about clusters."""

    # fmt: off
    executor: Annotated[Literal["local", "ray", "slurm"], about(
        "where trainings run (docs/fleet.md): on this machine, a Ray cluster, or by way of Slurm",
        flag="--executor", risk="trains on a cluster of yours, by way of {}")] = "local"
    node_python: Annotated[str, about(
        "the Python on the cluster's machines that has autoresearch-tui; none: that of Ray's workers, with "
        "Slurm the engine's own", risk="runs `{}` on a cluster's machines")] = ""
    node_folder: Annotated[str, about(
        "folder of the cluster's machines for slots and compiled code; none: in the user's state folder",
        risk="writes to {} on a cluster's machines")] = ""
    ray_address: Annotated[str, about(
        "HOST:PORT of the Ray cluster's head; auto: the cluster that this machine is a part of",
        flag="--ray-address", unit="address", risk="sends the code to the Ray cluster at {}")] = "auto"
    ray_python: Annotated[str, about(
        "a Python with the cluster's versions of Python and Ray, where the engine's own differ",
        risk="runs `{}`")] = ""
    slurm_folder: Annotated[str, about(
        "a folder that this machine and Slurm's share; none: the run's own folder", flag="--slurm-folder",
        unit="dir", risk="writes to {}")] = ""
    slurm_partition: Annotated[str, about("Slurm's partition", flag="--slurm-partition")] = ""
    slurm_account: Annotated[str, about("the account that Slurm charges", flag="--slurm-account",
        risk="charges the Slurm account {}")] = ""
    slurm_gres: Annotated[str, about(
        "what a training gets, as Slurm's --gres: gpu:1 or gpu:h100:1; none: processors only",
        flag="--slurm-gres")] = ""
    slurm_time: Annotated[int, about(
        "minutes for Slurm's --time; 0: enough for one training, or the partition's for `slurm_allocation`",
        flag="--slurm-time", unit="minutes", ge=0)] = 0
    slurm_options: Annotated[list[str], about(
        "further options of sbatch", risk="gives the options {} to sbatch")] = []
    slurm_allocation: Annotated[bool, about(
        "keep the places that Slurm gives, and train there one after another: for slow queues",
        flag="--slurm-allocation")] = False
    # fmt: on
