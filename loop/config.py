"""Settings of a run: defaults < autoresearch.toml < environment < flags."""

from __future__ import annotations

import math
import shutil
import sys
import tomllib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from loop.errors import UsageError, describe
from loop.events import Limits
from loop.judging.verdict import Rules
from loop.records.repository import Repository

CONFIG = "autoresearch.toml"
PYTHON = "{python}"
FIXED = (
    "nanogpt/prepare.py",
    "nanogpt/counts.py",
    "nanogpt/attention.py",
    "nanogpt/fused.py",
    "nanogpt/clock.py",
    "nanogpt/evaluation.py",
    "prepare.py",
)
"""What agents may read by convention: what the editable file calls, and what makes numbers comparable."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set. Field names are the keys of autoresearch.toml."""

    train_command: list[str] = []
    """How one training run is started in its slot; `{python}` is the interpreter that runs us."""
    prepare_command: list[str] = []
    """Run once before the first training, with network; empty when there is nothing to prepare."""
    editable: list[str] = []
    """The file agents edit."""
    readonly: list[str] = []
    """Files agents may read besides."""
    program: str = "program.md"
    metric: str = "val_bpb"
    direction: Literal["min", "max"] = "min"
    budget_s: float = 300.0
    timeout_s: float = 0.0
    """Seconds after which a run is killed; 0: twice the budget, but at least a minute more than it."""
    memory_gb: float = 0.0
    """Resident memory a training run may use; 0: nine tenths of the machine's."""
    disk_gb: float = 50.0
    """What a training run may write; 0: no limit."""
    data: list[str] = []
    """Folders of training data outside the repository, besides the usual caches."""
    sandbox: Literal["off", "auto", "require"] = "auto"
    """The fence around training runs (docs/sandbox.md): none, what the machine has, or all or nothing."""
    sandbox_read: list[str] = []
    """Further files and folders that training runs may read."""
    stop_doomed: bool = True
    """End runs early whose loss is not finite, explodes, or is far behind the incumbent's."""
    network: bool = False
    """Training runs may use the network: for code that downloads while it trains."""
    agent: str = "auto"
    model: str = ""
    base_url: str = ""
    api: str = "auto"
    agent_command: list[str] = []
    agent_env: list[str] = []
    """Further variables of the environment that a CLI agent gets; a name that ends in `_` is a beginning."""
    max_turns: int = 40
    """Turns an agent may take for one proposal."""
    proposal_s: float = 1200.0
    """Seconds an agent may take for one proposal; waiting for a provider that is down does not count."""
    ahead: int = 1
    """Candidates prepared beyond the one in training; with `approve`, how many may wait for you."""
    approve: bool = False
    max_experiments: int | None = None
    max_hours: float | None = None
    max_cost: float | None = None
    max_crashes: int | None = 10
    fix_attempts: int = 2
    """How often an agent may repair one crashed idea."""
    rule: Literal["improved", "confirmed"] = "confirmed"
    """What is kept: any better number, or one that is better by more than luck (docs/verdicts.md)."""
    baseline_runs: int = 2
    """Runs of the unchanged code: they measure the noise."""
    max_runs: int = 3
    """Runs of one candidate at most, where rule `confirmed` asks for more than one."""
    combine: int = 14
    """Rule `confirmed`: near misses after which the engine tries them together; 0: never."""
    line_price: float = 0.02
    """Rule `confirmed`: what an added line must gain, in standard deviations of one run; 0: nothing."""

    audit: Literal["refuse", "report"] = "refuse"
    """What happens to a change that is more than training (docs/verdicts.md): not trained, or only shown."""

    @property
    def rules(self) -> Rules:
        return Rules(self.rule, self.baseline_runs, self.max_runs, self.combine, self.line_price)

    @property
    def limits(self) -> Limits:
        return Limits(self.max_experiments, self.max_hours, self.max_cost, self.max_crashes)

    @property
    def timeout(self) -> float:
        return self.timeout_s or max(2 * self.budget_s, self.budget_s + 60)

    @property
    def path(self) -> str:
        """The editable file."""
        return self.editable[0]

    def command(self, words: list[str]) -> list[str]:
        return [word.replace(PYTHON, sys.executable) for word in words]


ENVIRONMENT = {
    "AUTORESEARCH_AGENT": "agent",
    "AUTORESEARCH_MODEL": "model",
    "AUTORESEARCH_BUDGET_S": "budget_s",
}


def load(
    repository: Repository, commit: str, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> Settings:
    """The settings for a repository. Raises `UsageError` with the key and what is wrong with it."""
    values: dict[str, Any] = {}
    path = repository.root / CONFIG
    if path.exists():
        try:
            values |= tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}") from error
        except OSError as error:
            raise UsageError(describe(error)) from error
    values |= {key: environ[name] for name, key in ENVIRONMENT.items() if environ.get(name)}
    values |= {key: value for key, value in flags.items() if value is not None}
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"settings ({path.name}, environment or flags): {error}") from error
    return _check(_fill(repository, commit, settings), repository, commit)


def _fill(repository: Repository, commit: str, settings: Settings) -> Settings:
    """What the repository's own conventions say where nothing was set."""
    known = ("nanogpt/train.py", "train.py", *FIXED)
    has = {path for path in known if repository.read(commit, path) is not None}
    editable = settings.editable or [p for p in ("nanogpt/train.py", "train.py") if p in has][:1]
    if not editable:
        raise UsageError(
            f"{repository.root} has no committed train.py: set `editable` and `train_command` in {CONFIG}"
        )
    train = settings.train_command or _train_command(repository, commit, editable[0])
    prepare = settings.prepare_command
    if not prepare and not settings.train_command and "nanogpt/prepare.py" in has:
        prepare = [PYTHON, "nanogpt/prepare.py"]
    elif not prepare and not settings.train_command and "prepare.py" in has and editable[0] == "train.py":
        prepare = [*train[:-1], "prepare.py"]  # autoresearch's own: does nothing when the data is there
    readonly = settings.readonly or [p for p in FIXED if p in has]
    return msgspec.structs.replace(
        settings, editable=editable, train_command=train, prepare_command=prepare, readonly=readonly
    )


def _train_command(repository: Repository, commit: str, path: str) -> list[str]:
    """autoresearch's own way, `uv run train.py`, where uv and the repository's pyproject are there."""
    foreign = path == "train.py" and repository.read(commit, "pyproject.toml") is not None
    return ["uv", "run", path] if foreign and shutil.which("uv") else [PYTHON, path]


def _check(settings: Settings, repository: Repository, commit: str) -> Settings:
    if len(settings.editable) != 1:
        raise UsageError(f"`editable` must name one file, not {len(settings.editable)}")
    if repository.read(commit, settings.path) is None:
        raise UsageError(f"{settings.path} is not committed in {repository.root}: commit it first")
    if not 0 < settings.budget_s < math.inf:
        raise UsageError("the budget must be more than 0 seconds")
    if not 0 <= settings.timeout_s < math.inf or 0 < settings.timeout_s < settings.budget_s:
        raise UsageError("the time-out must be at least the budget (0: twice the budget)")
    if not 0 <= settings.memory_gb < math.inf:
        raise UsageError("`memory_gb` must be 0 or more")
    if not 0 <= settings.disk_gb < math.inf:
        raise UsageError("`disk_gb` must be 0 or more")
    for name, limit in msgspec.structs.asdict(settings.limits).items():
        if limit is not None and not limit > 0:
            raise UsageError(f"--{name.replace('_', '-')} must be more than 0")
    if not 1 <= settings.ahead <= 20:
        raise UsageError("`ahead` must be 1 to 20")
    if settings.baseline_runs < 1 or settings.max_runs < 1:
        raise UsageError("--baseline-runs and `max_runs` must be at least 1")
    return settings
