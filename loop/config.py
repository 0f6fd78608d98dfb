"""Settings of a run: defaults < autoresearch.toml < environment < flags.

A repository is a stranger until its user says otherwise (loop/stranger.py): what its files would run outside
the fence, open in the fence, read or send counts only if the caller says that it is trusted.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from loop.cluster_settings import ClusterSettings
from loop.errors import UsageError
from loop.events import Limits
from loop.judging import goal
from loop.judging.rules import Rules
from loop.records import foreign_files
from loop.records.repository import Repository
from loop.setting import FINITE, LARGEST, Setting
from loop.setting import about as _about

CONFIG = "autoresearch.toml"
METRIC_MOST = 80
"""Characters that the metric's name may have: it stands in headings."""
OUR_TRAINER = foreign_files.TRAINER
PYTHON = "{python}"
"""Stands in a command for the interpreter that runs the engine."""
READABLE = (
    "nanogpt/prepare.py",
    "nanogpt/counts.py",
    "nanogpt/attention.py",
    "nanogpt/polar.py",
    "nanogpt/clock.py",
    "nanogpt/evaluation.py",
    "nanogpt/answers.py",
    "prepare.py",
)
"""Files that agents may read where `readonly` is not set: what train.py imports, and what measures it."""
JUDGE, ANSWERS = "nanogpt/judge.py", "nanogpt/answers.py"
"""This project's own judge, and the program that answers it."""


AUTO = 0
"""Value of a setting whose number follows from the machine; `auto` in the file and on the command line."""
NUMBER_OR_AUTO = ("workers", "proposers")
TRACKERS = ("wandb", "trackio", "mlflow", "tensorboard")
API_AGENTS = ("auto", "search", "claude", "gpt")
"""Agents that have nothing but our toolbox. All others are CLI agents, which run commands of their own."""


def _bounds_the_disk(gb: float) -> bool:
    return 0 < gb <= 50


def _has_a_fence(sandbox: str) -> bool:
    return sandbox != "off"


def _has_our_toolbox_only(agent: str) -> bool:
    return agent in API_AGENTS


def _have_our_toolbox_only(agents: list[str]) -> bool:
    return all(map(_has_our_toolbox_only, agents))


def _is_auto(number: int) -> bool:
    return number == AUTO


def _is_judged_by_where_it_leads(program: str) -> bool:
    return True  # `_fill` looks at the file itself


class Settings(ClusterSettings, msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set. Field names are the keys of autoresearch.toml."""

    # fmt: off
    train_command: Annotated[list[str], _about(
        "starts a training in its slot; `{python}` is the interpreter that runs the engine",
        risk="runs `{}` for each training")] = []
    prepare_command: Annotated[list[str], _about(
        "prepares the data, once before the first training and with network; empty: nothing to do",
        risk="runs `{}` outside the fence, with network")] = []
    judge_command: Annotated[list[str], _about(
        "measures the model that a training saved (docs/formats.md); empty: what it prints is taken",
        risk="runs `{}` outside the fence after each training")] = []
    answers_command: Annotated[list[str], _about(
        "loads that model with the candidate's code and answers the judge",
        risk="runs `{}` with each saved model")] = []
    editable: Annotated[list[str], _about("the file that agents edit")] = []
    readonly: Annotated[list[str], _about("files that agents may read besides")] = []
    program: Annotated[str, _about(
        "the file with your instructions to the agent", risk="gives {} to the agent",
        harmless=_is_judged_by_where_it_leads)] = foreign_files.PROGRAM
    metric: Annotated[str, _about("the number that a training prints and that is judged")] = "val_bpb"
    direction: Annotated[Literal["min", "max"], _about("which end of the metric is the better one")] = "min"
    budget_s: Annotated[float, _about(
        "how long each training trains; not set: 300, for our trainer without an NVIDIA GPU 60",
        flag="--budget", title="the budget (not set: 0)", unit="seconds", ge=0, le=FINITE)] = 0.0
    timeout_s: Annotated[float, _about(
        "when a training is killed; 0: after twice the budget, but at least a minute more than it",
        flag="--timeout", unit="seconds")] = 0.0
    memory_gb: Annotated[float, _about(
        "resident memory that a training may use; 0: nine tenths of the machine's", ge=0, le=FINITE)] = 0.0
    disk_gb: Annotated[float, _about("how much a training may write; 0: no limit", ge=0, le=FINITE,
        risk="lets a training write {} GB (0: no limit)", harmless=_bounds_the_disk)] = 50.0
    data: Annotated[list[str], _about(
        "folders of training data outside the repository, besides the usual caches",
        risk="lets trainings read {}")] = []
    held_out: Annotated[list[str], _about(
        "files and folders with the text that models are measured on: no training may read them")] = []
    sandbox: Annotated[Literal["off", "auto", "require"], _about(
        "the fence around trainings (docs/sandbox.md): none, what this machine has, or all or nothing",
        flag="--sandbox", risk="takes the fence around trainings down",
        harmless=_has_a_fence)] = "auto"
    sandbox_read: Annotated[list[str], _about(
        "further files and folders that a training may read", risk="lets trainings read {}")] = []
    dry_run: Annotated[Literal["auto", "on", "off"], _about(
        "test the machine before its first training, and compile each commit in some steps on random tokens, "
        "before its clock starts; auto: where an NVIDIA GPU is")] = "auto"
    stop_doomed: Annotated[bool, _about(
        "end a training early: its loss is not finite, explodes, or by its curve it cannot win")] = True
    network: Annotated[bool, _about(
        "a training may use the network: for code that downloads while it trains",
        risk="lets trainings use the network")] = False
    agent: Annotated[str, _about(
        "who proposes: auto, search, claude, gpt, acp, claude-code, codex, gemini, opencode or qwen",
        flag="--agent", risk="starts the CLI agent {}, which reads program.md and runs commands of its own",
        harmless=_has_our_toolbox_only)] = "auto"
    model: Annotated[str, _about("the agent's model; none: the agent's own choice", flag="--model")] = ""
    base_url: Annotated[str, _about(
        "the address of an OpenAI-compatible server for agent gpt", flag="--base-url", unit="url",
        risk="sends your API key and what agents are told to {}")] = ""
    api: Annotated[Literal["auto", "responses", "chat"], _about(
        "which API that server speaks", flag="--api")] = "auto"
    agent_command: Annotated[list[str], _about(
        "the command of a CLI agent, for agent acp", flag="--agent-command", unit="command",
        risk="runs `{}`")] = []
    agent_env: Annotated[list[str], _about(
        "further environment variables for a CLI agent; `NAME_` stands for all names that begin so",
        risk="gives your variables {} to a CLI agent")] = []
    agent_sandbox: Annotated[Literal["auto", "off"], _about(
        "the fence around a CLI agent (docs/agents.md): what this machine has, or none",
        flag="--agent-sandbox", risk="takes the fence around the CLI agent down",
        harmless=_has_a_fence)] = "auto"
    agent_state: Annotated[list[str], _about(
        "further folders below your home folder in which a CLI agent keeps its login and settings",
        risk="lets a CLI agent read and change {} in your home folder")] = []
    max_turns: Annotated[int, _about("turns that an agent may take for one proposal")] = 40
    proposal_s: Annotated[float, _about(
        "seconds for one proposal, not counting the wait for a provider that is down")] = 1200.0
    workers: Annotated[int, _about(
        "trainings at once, each on its own seat (docs/fleet.md); auto: one for each GPU", flag="--workers",
        title="--workers (auto: 0)", ge=0, le=256, risk="trains on {} seats at once (0: on every GPU)")] = 1
    workers_per_gpu: Annotated[int, _about(
        "trainings at once that share a GPU; their numbers are only comparable with each other", ge=1, le=16,
        risk="lets {} trainings share a GPU")] = 1
    proposers: Annotated[int, _about(
        "conversations with agents at once; auto: what the seats need", flag="--proposers",
        title="--proposers (auto: 0)", ge=0, le=64, risk="lets {} agents work at once",
        harmless=_is_auto)] = 0
    agents: Annotated[list[str], _about(
        "agents that share a run, such as claude,search; none: `agent` alone", flag="--agents",
        unit="names", risk="starts the agents {}", harmless=_have_our_toolbox_only)] = []
    ahead: Annotated[int, _about(
        "candidates prepared beyond the one in training; with `approve`, how many may wait for you",
        ge=1, le=20)] = 1
    approve: Annotated[bool, _about("every candidate waits for your approval", flag="--approve")] = False
    max_experiments: Annotated[int, _about(
        "stop at so many experiments of this run, the baseline included", flag="--max-experiments", gt=0,
    )] | None = None
    max_hours: Annotated[float, _about(
        "stop when this engine has run so long", flag="--max-hours", unit="hours", gt=0)] | None = None
    max_cost: Annotated[float, _about(
        "stop when the agent has spent so much", flag="--max-cost", unit="dollars", gt=0)] | None = None
    max_crashes: Annotated[int, _about(
        "stop after so many crashes in a row", flag="--max-crashes", gt=0)] | None = 10
    until: Annotated[str, _about(
        "stop when the best value has reached this, such as \"val_bpb < 1.2\"", flag="--until")] = ""
    fix_attempts: Annotated[int, _about(
        "how often an agent may repair an idea that crashed", flag="--fix-attempts")] = 2
    rule: Annotated[Literal["improved", "confirmed"], _about(
        "what is kept (docs/verdicts.md): any better number, or one that is better by more than luck",
        flag="--rule")] = "confirmed"
    baseline_runs: Annotated[int, _about(
        "trainings of the unchanged code: they measure the noise", flag="--baseline-runs", ge=1, le=1000)] = 2
    max_runs: Annotated[int, _about(
        "trainings of one candidate at most, where rule `confirmed` asks for more than one",
        ge=1, le=1000)] = 3
    combine: Annotated[int, _about(
        "near misses that the engine tries together, at most (rule `confirmed`); 0: never")] = 14
    line_price: Annotated[float, _about(
        "what an added line must gain (rule `confirmed`), in standard deviations of one training")] = 0.02
    keep_models: Annotated[int, _about(
        "models kept on disk besides the incumbent's: those of the best experiments that were kept",
        ge=0, le=1000)] = 3
    track: Annotated[list[str], _about(
        "tools that get every experiment (docs/tracking.md): wandb, trackio, mlflow, tensorboard",
        flag="--track", unit="names", risk="sends results and code to {}")] = []
    audit: Annotated[Literal["refuse", "report"], _about(
        "a change that is more than training (docs/verdicts.md) is not trained, or only shown")] = "refuse"
    # fmt: on

    @property
    def rules(self) -> Rules:
        return Rules(self.rule, self.baseline_runs, self.max_runs, self.combine, self.line_price)

    @property
    def limits(self) -> Limits:
        return Limits(self.max_experiments, self.max_hours, self.max_cost, self.max_crashes, self.until)

    @property
    def timeout(self) -> float:
        """Seconds after which a training is killed, once the budget is known (loop/budget.py)."""
        return self.timeout_s or max(2 * self.budget_s, self.budget_s + 60)

    @property
    def path(self) -> str:
        """The editable file."""
        return self.editable[0]

    def command(self, words: list[str]) -> list[str]:
        """A command of these settings with the interpreter's path in it."""
        return [word.replace(PYTHON, sys.executable) for word in words]


def described() -> dict[str, Setting]:
    """Every field of `Settings` by its name."""
    found = {}
    for field in msgspec.structs.fields(Settings):
        optional = get_origin(field.type) is not Annotated  # Annotated[...] | None
        kind, meta = get_args(get_args(field.type)[0] if optional else field.type)
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        found[field.name] = Setting(field.name, kind, default, meta)
    return found


ENVIRONMENT = {
    "AUTORESEARCH_AGENT": "agent",
    "AUTORESEARCH_MODEL": "model",
    "AUTORESEARCH_BUDGET_S": "budget_s",
}


def load(
    repository: Repository,
    commit: str,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    trusted: Collection[str] = (),
) -> Settings:
    """The settings for a repository. Raises `UsageError` with the key and what is wrong with it.

    `trusted` names the settings with a risk that count although the repository's files ask for them. What
    the environment and the flags say always counts: it is the user's own word.
    """
    values = foreign_files.toml(repository.root / CONFIG)
    asked = msgspec.structs.asdict(_convert(values))
    for name, setting in described().items():
        if name not in trusted and not setting.is_harmless(asked[name]):
            values.pop(name, None)
    values |= {key: environ[name] for name, key in ENVIRONMENT.items() if environ.get(name)}
    values |= {key: value for key, value in flags.items() if value is not None}
    return _check(_fill(repository, commit, _convert(values), trusted), repository, commit)


def _convert(values: Mapping[str, Any]) -> Settings:
    """The settings with these values. Raises `UsageError`."""
    numbers = {name: AUTO for name in NUMBER_OR_AUTO if values.get(name) == "auto"}
    try:
        settings = msgspec.convert({**values, **numbers}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(_sentence(str(error), values)) from error
    for name, number in msgspec.structs.asdict(settings).items():
        if isinstance(number, int) and number > LARGEST:
            raise UsageError(f"{described()[name].called} must be at most {LARGEST:,}")
    if settings.base_url and not _is_address(settings.base_url):
        raise UsageError(
            f"--base-url {settings.base_url!r} must be an address such as http://127.0.0.1:8000/v1"
        )
    return settings


def _sentence(error: str, values: Mapping[str, Any]) -> str:
    """What msgspec found wrong, as a sentence that names the setting and what it must be."""
    found = re.match(r"(?:Expected `(?:int|float)` [<>]|Invalid enum value).* - at `\$\.(\w+)`$", error)
    if found:
        return described()[found[1]].requirement(values[found[1]])
    return f"settings ({CONFIG}, environment or flags): {error}"


def _fill(repository: Repository, commit: str, settings: Settings, trusted: Collection[str]) -> Settings:
    """Set what is not set, as the files of the repository suggest. Raises `UsageError`."""
    known = (OUR_TRAINER, "train.py", JUDGE, ANSWERS, *READABLE)
    has = {path for path in known if repository.read(commit, path) is not None}
    editable = settings.editable or [p for p in (OUR_TRAINER, "train.py") if p in has][:1]
    if not editable:
        raise UsageError(
            f"{repository.root} has no committed train.py: set `editable` and `train_command` in {CONFIG}"
        )
    train = settings.train_command
    if not train:
        train = _train_command(repository, commit, editable[0], "train_command" in trusted)
    prepare = settings.prepare_command
    ours = foreign_files.is_our_trainer(repository, commit, editable[0])
    if not prepare and not settings.train_command:
        if "nanogpt/prepare.py" in has and (ours or "prepare_command" in trusted):
            prepare = [PYTHON, "nanogpt/prepare.py"]
        elif "prepare.py" in has and editable[0] == "train.py" and "prepare_command" in trusted:
            prepare = [*train[:-1], "prepare.py"]  # autoresearch's own: does nothing if the data is there
    judge, answers = settings.judge_command, settings.answers_command
    is_there = {JUDGE, ANSWERS} <= has and (ours or "judge_command" in trusted)
    if is_there and not judge and not settings.train_command:
        judge, answers = [PYTHON, JUDGE], [PYTHON, ANSWERS]
    mild = foreign_files.is_mild_program(
        repository,
        commit,
        settings.program,
        has_commands=not _have_our_toolbox_only(settings.agents or [settings.agent]),
    )
    return msgspec.structs.replace(
        settings,
        editable=editable,
        train_command=train,
        prepare_command=prepare,
        judge_command=judge,
        answers_command=answers,
        readonly=settings.readonly or [p for p in READABLE if p in has],
        track=list(dict.fromkeys(settings.track)),
        program=settings.program if mild or "program" in trusted else "",
    )


def _train_command(repository: Repository, commit: str, path: str, trusted: bool) -> list[str]:
    """How to start the script at `path`: by this interpreter, or by `uv run` where a repository like
    karpathy/autoresearch brings a train.py and a pyproject.toml of its own, and uv is installed.

    To install a project's packages runs code of theirs outside the fence, so uv needs trust.
    """
    foreign = path == "train.py" and repository.read(commit, "pyproject.toml") is not None
    return ["uv", "run", path] if trusted and foreign and shutil.which("uv") else [PYTHON, path]


def _check(settings: Settings, repository: Repository, commit: str) -> Settings:
    """What the type of a single setting cannot say. Raises `UsageError`."""
    if len(settings.editable) != 1:
        raise UsageError(f"`editable` must name one file, not {len(settings.editable)}")
    source = repository.read(commit, settings.path)
    if source is None:
        raise UsageError(f"{settings.path} is not committed in {repository.root}: commit it first")
    if len(source) > foreign_files.TEXT_MOST:
        raise UsageError(f"{settings.path} has {len(source):,} characters: agents edit no file of that size")
    if bool(settings.judge_command) != bool(settings.answers_command):
        raise UsageError("`judge_command` and `answers_command` belong together: set both or none")
    if _runs_unfenced(settings):
        raise UsageError(
            f"`editable` {settings.path} runs outside the fence, no agent may change it: name another file"
        )
    if not settings.metric or len(settings.metric) > METRIC_MOST:
        raise UsageError(f"`metric` must be a name of 1 to {METRIC_MOST} characters")
    for name in settings.track:
        if name not in TRACKERS:
            raise UsageError(f"--track {name!r} must be {', '.join(TRACKERS[:-1])} or {TRACKERS[-1]}")
    if settings.until:
        try:
            goal.goal(settings.until, settings.metric, settings.direction)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if settings.timeout_s and not settings.budget_s <= settings.timeout_s < math.inf:
        raise UsageError("the time-out must be at least the budget (0: twice the budget)")
    return settings


def _runs_unfenced(settings: Settings) -> bool:
    """Whether the file that agents edit prepares the data, measures, or lies where this project's own judge
    imports from. `answers_command` runs behind the fence, with the candidate's code."""
    commands = (settings.prepare_command, settings.judge_command)
    words = {os.path.normpath(word) for command in commands for word in command}
    beside = JUDGE in words and settings.path.startswith("nanogpt/") and settings.path != OUR_TRAINER
    return beside or settings.path in words


def _is_address(url: str) -> bool:
    try:
        found = urlsplit(url)
    except ValueError:
        return False
    return found.scheme in ("http", "https") and bool(found.hostname)
