"""The tools that a model has in a conversation. They write no files: the edited source is kept in memory.

A tool is a class. Its fields give the JSON schema that a provider is sent, and the arguments of each call are
checked against them. Each failure is a sentence from which the model can correct itself. Texts are compared
and parsed in threads, so that a large source does not stop the engine.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from loop.agents import checks, dynamics, edits
from loop.agents.base import NOTES_MOST, Emit, Proposal, ResearchContext
from loop.agents.expected import Expected, Unknown
from loop.agents.quote import quoted
from loop.events import AgentDelta, CandidateEdited
from loop.text import clean, one_line, tail

LINES_MOST = 600
"""Lines that one `view` or `read_log` shows at most."""
ANSWER_MOST = 40_000
"""Characters that one answer has at most."""
NAME_MOST = 80
"""Characters of a tool's name that are shown: a model may ask for one that there is not."""


class ToolError(Exception):
    """A call that has done nothing. The message goes to the model."""


class Tool(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all tools. The docstring of a tool is its description for the model."""

    name: ClassVar[str] = ""


class View(Tool, frozen=True):
    """Show a file with line numbers (they are not part of the file). Without a path: the editable file as
    it is now, with your edits."""

    name = "view"
    path: Annotated[str, Meta(description="The editable file or one of the read-only files.")] = ""
    first: Annotated[int, Meta(ge=1, description="First line.")] = 1
    last: Annotated[int, Meta(ge=0, description="Last line; 0 for the end of the file.")] = 0


class StrReplace(Tool, frozen=True):
    """Replace one piece of the editable file. `old` must be in the file exactly once, character for
    character: take in enough lines around it."""

    name = "str_replace"
    old: Annotated[str, Meta(min_length=1, description="The text that is there now.")]
    new: Annotated[str, Meta(description="What it becomes.")]


class Write(Tool, frozen=True):
    """Replace the whole editable file. Use str_replace for anything smaller than a rewrite."""

    name = "write"
    text: Annotated[str, Meta(min_length=1, description="The new text of the file.")]


class ReadLog(Tool, frozen=True):
    """The end of what an experiment's training printed."""

    name = "read_log"
    experiment: Annotated[int, Meta(ge=1, description="Its number.")]
    lines: Annotated[int, Meta(ge=1, le=LINES_MOST, description="How many lines.")] = 60


class ReadExperiment(Tool, frozen=True):
    """What an experiment changed (its diff), why, and what came of it."""

    name = "read_experiment"
    experiment: Annotated[int, Meta(ge=1, description="Its number.")]


class ReadCurve(Tool, frozen=True):
    """How an experiment's training went: its loss at equal shares of the budget beside that of the version it
    changed, speed, memory, and where the time went."""

    name = "read_curve"
    experiment: Annotated[int, Meta(ge=1, description="Its number.")]


class Predict(Tool, frozen=True):
    """What a surrogate model, fitted to all results so far, expects of new values of hyperparameters
    (UPPER_CASE numbers of the editable file). It knows nothing of other changes."""

    name = "predict"
    changes: Annotated[
        dict[str, float], Meta(min_length=1, description="Names of hyperparameters and their new values.")
    ]


class Importance(Tool, frozen=True):
    """How much each hyperparameter has moved the metric so far, and the next step that promises most."""

    name = "importance"


class Note(Tool, frozen=True):
    """Keep something for all later experiments in notes.md, your only memory besides the results: what was
    learned, not what was done. It holds 4,000 characters; replace it by a shorter one when it is full."""

    name = "note"
    text: Annotated[str, Meta(min_length=1, description="Added as a line of its own.")]
    replace: Annotated[bool, Meta(description="The text replaces the whole of notes.md.")] = False


class Submit(Tool, frozen=True):
    """Hand in the editable file as it is now as this experiment. It ends your turn if nothing is wrong."""

    name = "submit"
    description: Annotated[
        str, Meta(min_length=1, max_length=200, description="What is changed, in one line for results.tsv.")
    ]
    hypothesis: Annotated[
        str, Meta(max_length=2000, description="Why it should help, and what would show that it does not.")
    ] = ""


TOOLS: tuple[type[Tool], ...] = (
    View, StrReplace, Write, ReadLog, ReadExperiment, ReadCurve, Predict, Importance, Note, Submit,
)  # fmt: skip


def schema(tool: type[Tool]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments."""
    _, components = msgspec.json.schema_components([tool])
    found = components[tool.__name__]
    return {key: found[key] for key in ("type", "properties", "required", "additionalProperties")}


def describe(tool: type[Tool]) -> str:
    """The description of a tool for the model, in one line."""
    return " ".join((tool.__doc__ or "").split())


def function(tool: type[Tool]) -> dict[str, Any]:
    """A tool as OpenAI's APIs describe a function."""
    return {"name": tool.name, "description": describe(tool), "parameters": schema(tool)}


class Toolbox:
    """One experiment's tools, and what they have made so far: a source, notes and at last a proposal."""

    def __init__(
        self, context: ResearchContext, emit: Emit, tried: checks.Tried, known: Expected | None = None
    ) -> None:
        self._context, self._emit, self._tried = context, emit, tried
        self._doubts = checks.Doubts(context, known or Expected(context))
        self.source = context.failure.source if context.failure else context.source
        self.notes = context.notes
        self.reading = False
        """Whether it is a question that is worked on, for which nothing may be changed."""
        self.proposal: Proposal | None = None
        """What was submitted; its `usage` is for the caller to fill in."""

    async def call(self, name: str, arguments: object, id: str) -> str:
        """Run a tool and return its answer for the model. `id` is the call's message in the transcript.

        Raises `ToolError`.
        """
        tool = next((tool for tool in TOOLS if tool.name == name), None)
        if tool is None:
            names = ", ".join(tool.name for tool in TOOLS)
            self._say(id, name, "unknown tool")
            raise ToolError(f"there is no tool {one_line(name, NAME_MOST)!r}; there is {names}.")
        try:
            given = msgspec.convert(arguments, tool)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:  # half a character in a field's name
            self._say(id, name, "input that does not fit")
            wrong = one_line(str(error))
            raise ToolError(f"{name}: {wrong}. Call it again with input that fits its schema.") from error
        if self.reading and isinstance(given, StrReplace | Write | Note | Submit):
            self._say(id, name, "not for a question")
            raise ToolError(f"{name}: this is a question, not an experiment. Answer it in words.")
        match given:
            case View():
                self._say(id, name, f"{given.path or self._context.path} from line {given.first}")
                return await asyncio.to_thread(self._view, given)
            case StrReplace() | Write():
                return await self._edit(given, id)
            case ReadLog() | ReadExperiment() | ReadCurve():
                self._say(id, name, f"experiment {given.experiment}")
                return await asyncio.to_thread(self._read, given)
            case Predict() | Importance():
                asked = given.changes if isinstance(given, Predict) else {}
                self._say(id, name, ", ".join(f"{key} {value:g}" for key, value in asked.items()))
                return await asyncio.to_thread(self._expect, given)
            case Note():
                self._say(id, name, given.text)
                return self._note(given)
            case Submit():
                self._say(id, name, f"{given.description}\n{given.hypothesis}".rstrip())
                return await self._submit(given)
        raise AssertionError("every tool has its case")

    def _say(self, id: str, tool: str, text: str) -> None:
        """Tell the call in the transcript."""
        shown = clean(text), id, one_line(tool, NAME_MOST)
        self._emit(AgentDelta(self._context.n, "tool", *shown, time.time()))

    def _view(self, given: View) -> str:
        """Lines of a file with their numbers."""
        files = {**self._context.readonly, self._context.path: self.source}
        path = given.path or self._context.path
        if path not in files:
            raise ToolError(
                f"view: there is no {one_line(path)!r} here; there is {', '.join(sorted(files))}."
            )
        lines = clean(files[path]).splitlines()
        last = min(given.last or len(lines), len(lines), given.first + LINES_MOST - 1)
        shown = "\n".join(f"{i:5d}  {lines[i - 1]}" for i in range(given.first, last + 1))
        return f"lines {given.first} to {last} of {len(lines)}\n{quoted(path, shown[:ANSWER_MOST])}"

    async def _edit(self, given: StrReplace | Write, id: str) -> str:
        """Change the source, show the change, and say so when the source cannot be read any more."""
        before, path = self.source, self._context.path
        try:
            after = (
                await asyncio.to_thread(edits.replace, before, given.old, given.new)
                if isinstance(given, StrReplace)
                else given.text
            )
        except edits.NoMatch as error:
            self._say(id, given.name, "text that is not in the file once")
            raise ToolError(f"str_replace: {error}") from error
        self.source = after
        self._say(id, given.name, await asyncio.to_thread(edits.headline, path, before, after))
        self._emit(CandidateEdited(self._context.n, path, self._context.source, after))
        wrong = await asyncio.to_thread(checks.unreadable, path, after)
        return f"{path} is changed, but {wrong}" if wrong else f"{path} is changed."

    def _read(self, given: ReadLog | ReadExperiment | ReadCurve) -> str:
        """The log of a past experiment, its curve, or its change and what came of it."""
        c, n = self._context, given.experiment
        e = next((e for e in c.experiments if e.n == n), None)
        if e is None:
            raise ToolError(f"there is no experiment {n}; the last is {len(c.experiments)}.")
        if isinstance(given, ReadLog):
            log = tail(c.archive.log(n), given.lines)[-ANSWER_MOST:]
            return quoted(f"log of experiment {n}", log) if log else f"experiment {n} has printed nothing."
        if isinstance(given, ReadCurve):
            told = clean(dynamics.report(c, e))
            return quoted(f"training of experiment {n}", told) if told else f"experiment {n} has no curve."
        value = "no value" if e.value is None else f"{c.metric} {e.value:.6f}"
        parent = c.parent(e)
        before = c.archive.source(parent.n) if parent else ""
        diff = edits.diff(c.path, before, c.archive.source(n))
        words = f"{e.phase}, {value}. {e.reason}\n{e.description}\n{e.hypothesis}"
        return quoted(
            f"experiment {n}", clean(f"{words}\n{diff if parent else '(the unchanged start)'}")[:ANSWER_MOST]
        )

    def _expect(self, given: Predict | Importance) -> str:
        """What the surrogate model says."""
        known = self._doubts.known
        try:
            return known.predict(given.changes) if isinstance(given, Predict) else known.importance()
        except Unknown as error:
            raise ToolError(f"{given.name}: {error}.") from error

    def _note(self, given: Note) -> str:
        """Add to the notes, or replace them."""
        line = clean(given.text).strip()
        notes = line if given.replace else f"{self.notes.rstrip()}\n{line}".strip()
        if len(notes) > NOTES_MOST:
            raise ToolError(
                f"note: notes.md would have {len(notes):,} characters and may have {NOTES_MOST:,}: call note "
                "with replace=true and a text that keeps only what matters."
            )
        self.notes = notes + "\n"
        return f"noted ({len(notes):,} of {NOTES_MOST:,} characters)."

    async def _submit(self, given: Submit) -> str:
        """Make the proposal, or say why this source cannot be trained."""
        if not given.description.strip():
            raise ToolError("submit: the description is empty; say in one line what is changed.")
        if wrong := await checks.objection(self._context, self.source, self._tried):
            raise ToolError(f"not submitted: {wrong}")
        if doubt := await asyncio.to_thread(self._doubts.find, self.source, given.description):
            raise ToolError(f"not submitted yet: {doubt}")
        notes = self.notes if self.notes != self._context.notes else None
        self.proposal = Proposal(
            " ".join(clean(given.description).split()),
            self.source,
            clean(given.hypothesis).strip(),
            notes=notes,
        )
        return "submitted."
