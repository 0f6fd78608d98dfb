"""The runs of this machine for the cockpit, which can also start a new one: what can be chosen, and what of
it is set up here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from loop import budget, config, stranger
from loop.agents.choose import CLI_AGENTS, model, place, resolve
from loop.cli import left_out, which_run
from loop.client import Connection, Finding, NewRun, Refused, RunOverview
from loop.errors import UsageError
from loop.judging import goal
from loop.records.repository import Repository
from loop.service import launch, runs, telemetry
from loop.state import RunState
from loop.training import gpu

Tell = Callable[[Finding], object]


class MachineRuns:
    """The runs of this user on this machine (`loop.client.Runs`)."""

    agents = ("auto", "search", "claude", "gpt", *CLI_AGENTS)

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def known(self) -> list[RunOverview]:
        return runs.known()

    def opener(self, run: RunOverview) -> Callable[[], Awaitable[Connection]]:
        return runs.opener(run)

    def look(self, root: str, tell: Tell) -> None:
        """Look at the repository, the keys, the CLI agents and the machine, all at the same time."""
        looks = (self._repository, self._keys, self._cli_agents, self._machine)
        with ThreadPoolExecutor(len(looks)) as pool:
            for done in [pool.submit(look, root, tell) for look in looks]:
                done.result()

    def start(self, wanted: NewRun) -> RunOverview:
        """Start the engine with what the repository may have; nothing new is trusted here."""
        try:
            repository = Repository.discover(Path(wanted.root))
            try:
                flags = self._flags(wanted, repository)
                paths = which_run.to_start(None, repository)
            finally:
                repository.close()
            launch.start_detached(paths, flags)
        except UsageError as error:
            raise Refused(str(error)) from error
        return RunOverview(str(paths.root), paths.tag, running=True)

    def _flags(self, wanted: NewRun, repository: Repository) -> dict[str, Any]:
        """The settings that were asked for. Raises `UsageError` when they are wrong, alone or together."""
        plain = self._settings(repository, {})
        given: dict[str, Any] = {"agent": wanted.agent.strip(), "model": wanted.model.strip()}
        given["approve"] = wanted.approve or None
        if wanted.budget.strip():
            given["budget_s"] = _number(wanted.budget, "the budget")
        if wanted.workers.strip():
            given["workers"] = config.AUTO if wanted.workers.strip() == "auto" else _count(wanted.workers)
        try:
            limits = goal.parse(wanted.limits, plain.metric, plain.direction)
        except ValueError as error:
            raise UsageError(str(error)) from None
        given |= {name: getattr(limits, name) for name in goal.NAMES.values()}
        flags = {name: value for name, value in given.items() if value not in (None, "")}
        self._settings(repository, flags)
        return flags

    def _settings(self, repository: Repository, flags: Mapping[str, Any]) -> config.Settings:
        found = stranger.wishes(repository, repository.head(), flags, self._environ)
        return config.load(repository, repository.head(), flags, self._environ, found.names)

    # --- what there is ---

    def _repository(self, root: str, tell: Tell) -> None:
        """What the repository itself says, and how much of it counts."""
        try:
            repository = Repository.discover(Path(root))
            try:
                settings = self._settings(repository, {})
                asked = stranger.wishes(repository, repository.head(), {}, self._environ)
                said = [asked.ignored(), *left_out.left_out(repository, settings)]
            finally:
                repository.close()
            chosen, why = resolve(settings, self._environ)
        except UsageError as error:
            tell(Finding("root", "wrong", str(error)))
            return
        tell(Finding("root", "none" if any(said) else "ok", "; ".join(filter(None, said))))
        tell(Finding("auto", "ok", f"{chosen}: {why.split(',')[0]}"))
        own = model(chosen, settings, self._environ)
        tell(Finding("model", "ok", f"empty: {own or 'as the agent has it'}"))
        settled, _ = budget.settled(settings, RunState(), has_gpu=gpu.has_driver())
        tell(Finding("budget", "ok", f"seconds a training; empty: {settled.budget_s:g}"))
        if settings.approve:
            tell(Finding("approve", "ok", "as the repository asks: every candidate waits for you"))

    def _keys(self, root: str, tell: Tell) -> None:
        """Whether the agents that need nothing but a key, or nothing at all, are set up."""
        tell(Finding("search", "ok", "no model: varies hyperparameters"))
        for agent, names in (
            ("claude", ("ANTHROPIC_API_KEY",)),
            ("gpt", ("OPENAI_API_KEY", "OPENAI_BASE_URL")),
        ):
            there = [name for name in names if self._environ.get(name)]
            words = f"{there[0]} is set" if there else f"{' or '.join(names)} is not set"
            tell(Finding(agent, "ok" if there else "none", words))

    def _cli_agents(self, root: str, tell: Tell) -> None:
        """What each CLI agent says of itself, each as soon as it has answered."""
        from loop.agents.acp.inquiry import inquire

        async def ask(name: str) -> None:
            found = await inquire(place(name, config.Settings(), self._environ, offline=True))
            tell(Finding(name, found.state, found.text))

        async def ask_all() -> None:
            await asyncio.gather(*map(ask, CLI_AGENTS))

        asyncio.run(ask_all())

    def _machine(self, root: str, tell: Tell) -> None:
        """The GPU, and whether other runs train here: they would slow each other down."""
        name = telemetry.gpu_name()
        words = f"{name}; auto: one for each GPU" if name else "no GPU is seen: the CPU trains"
        busy = next((run.tag for run in runs.known() if run.running and run.phase != "paused"), "")
        if busy:
            tell(Finding("workers", "wrong", f"shared with {busy}, which runs: {words}"))
        else:
            tell(Finding("workers", "ok", words))


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"{what} must be a number of seconds above 0, not {text.strip()!r}")
    return number


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise UsageError(f"workers must be a whole number above 0, or auto, not {text.strip()!r}")
    return int(text)
