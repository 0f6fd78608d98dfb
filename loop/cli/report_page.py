"""The page of a report: one HTML file with its picture inside; and the table of all experiments."""

from __future__ import annotations

import base64
import csv
import difflib
import io
from collections.abc import Callable, Container
from html import escape
from typing import Any

from loop.judging.history import noise_of
from loop.state import Experiment, RunState
from loop.text import clean, counted

Source = Callable[[Experiment], tuple[str, str]]
"""The editable file before and after an experiment."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2430; }
table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; text-align: right; } img { max-width: 100%; }
pre { background: #f4f5f7; padding: .7rem; overflow-x: auto; font-size: 13px; line-height: 1.35; }
.added { color: #15803d; } .removed { color: #b91c1c; }
summary { cursor: pointer; } .quiet { color: #5b6472; }
"""


def html(state: RunState, picture: bytes, source: Source, model: str = "") -> str:
    """The whole page. What agents wrote is escaped, so that a browser shows it and never runs it.

    `picture` is a PNG, `model` the incumbent's model file; empty when there is none.
    """
    title = f"autoresearch/{_shown(state.tag)}"
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
        f"<p>{_shown(headline(state))}</p>",
        f"<p>{_shown(where_model_is(state, model))}</p>",
        f"<img alt='progress' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>",
        "<h2>Kept, by gain</h2>",
        _keeps(state),
        "<h2>Diffs of what was kept</h2>",
        *(_diff(e, source) for e in state.experiments if e.phase == "keep" and e.n > 1),
        "<h2>Spending</h2>",
        f"<p>{_shown(spending(state))}</p>",
        "<h2>Noise and caveats</h2><ul>",
        *(f"<li>{_shown(line)}</li>" for line in caveats(state)),
        "</ul><h2>All experiments</h2>",
        _all(state),
        "</html>\n",
    ]
    return "\n".join(parts)


def _shown(text: str) -> str:
    """Foreign text as HTML that shows it: nothing in it runs or turns what stands beside it around."""
    return escape(clean(text))


def headline(state: RunState) -> str:
    """The result of the run in one or two sentences."""
    counts = f"{counted(state.rows, 'experiment')}, {state.kept} kept, {state.crashed} crashed"
    if state.best is None or not state.baseline:
        return f"{counts}; no baseline yet."
    gain = 100 * (state.best / state.baseline - 1)
    return f"{counts}. {state.metric} {state.baseline:.6f} → {state.best:.6f} ({gain:+.2f}%)."


def where_model_is(state: RunState, model: str) -> str:
    """Where the incumbent's model is, and how to get it."""
    if not model:
        return "No model of the incumbent is kept."
    taken = f"`autoresearch-tui model export --tag {state.tag} DIR` takes it away with its code"
    return f"The model of #{state.incumbent} is {model}; {taken}."


def spending(state: RunState) -> str:
    """Tokens and dollars of the whole run."""
    usage = state.usage
    dollars = "dollars unknown" if usage.dollars is None else f"${usage.dollars:.2f}"
    read = f"{usage.input_tokens:,} tokens in ({usage.cached_tokens:,} cached)"
    return f"{read}, {usage.output_tokens:,} out, {dollars}."


def caveats(state: RunState, only: Container[int] | None = None) -> list[str]:
    """What a reader should know before believing the numbers; of keeps, those numbered `only` are named."""
    ended = [t.finished for e in state.experiments for t in e.trainings if t.finished and t.value is not None]
    printed = sum(not found.verified for found in ended)
    repeated = sum(len([t for t in e.trainings if t.value is not None]) > 1 for e in state.experiments)
    were = "was" if len(ended) == 1 else "were"
    lines = [f"{counted(len(ended), 'training')} {were} measured."]
    if repeated:
        were = "was" if repeated == 1 else "were"
        lines.append(f"{counted(repeated, 'experiment')} {were} trained more than once.")
    if (noise := noise_of(state)).known:
        lines.append(
            f"One training's standard deviation is {noise.deviation:.6f}, from reruns and what is usual."
        )
    if printed:
        were = "was" if printed == 1 else "were"
        lines.append(f"{counted(printed, 'value')} {were} read from printed text, not measured by a judge.")
    keeps = [e for e in state.experiments if e.phase == "keep" and e.evidence]
    lines += [f"#{e.n}: {e.evidence}" for e in keeps if only is None or e.n in only]
    lines.append("Values are comparable only on the same data, budget, machine and torch version.")
    return lines


def _keeps(state: RunState) -> str:
    keeps = [e for e in state.experiments if e.phase == "keep" and e.delta is not None]
    keeps.sort(key=lambda e: e.delta or 0.0, reverse=state.direction == "max")
    rows = [_cells(e, f"{e.delta:+.6f}", e.evidence, e.description) for e in keeps]
    if not rows:
        return "<p>Nothing beyond the baseline yet.</p>"
    return _table(("#", "commit", state.metric, "gain", "evidence", "description"), rows)


def _all(state: RunState) -> str:
    rows = [_cells(e, e.phase, e.description, e.reason) for e in state.experiments if e.judged]
    return _table(("#", "commit", state.metric, "status", "description", "reason"), rows)


def _cells(e: Experiment, *more: str) -> list[str]:
    return [str(e.n), e.commit[:7], "" if e.value is None else f"{e.value:.6f}", *more]


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = ["<table><tr>" + "".join(f"<th>{_shown(word)}</th>" for word in head) + "</tr>"]
    for row in rows:
        cells = [
            f"<td class='number'>{_shown(row[0])}</td>",
            *(f"<td>{_shown(cell)}</td>" for cell in row[1:]),
        ]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _diff(e: Experiment, source: Source) -> str:
    before, after = source(e)
    lines = []
    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2):
        kind = {"+": "added", "-": "removed", "@": "quiet"}.get(line[:1])
        lines.append(f"<span class='{kind}'>{_shown(line)}</span>" if kind else _shown(line))
    words = f"#{e.n} {e.description}"
    why = f"<p class='quiet'>{_shown(e.hypothesis)}</p>" if e.hypothesis else ""
    body = "\n".join(lines[2:])
    return f"<details><summary>{_shown(words)}</summary>{why}<pre>{body}</pre></details>"


COLUMNS = (
    "n", "status", "value", "delta", "memory_gb", "commit", "parent", "runs", "seconds", "input_tokens",
    "output_tokens", "dollars", "evidence", "description", "hypothesis", "reason", "seats", "agent",
)  # fmt: skip


def table(state: RunState) -> list[dict[str, Any]]:
    """Every judged experiment with all its figures."""
    return [
        {
            "n": e.n,
            "status": e.phase,
            "value": e.value,
            "delta": e.delta,
            "memory_gb": e.memory_gb,
            "commit": clean(e.commit),
            "parent": clean(e.parent),
            "runs": len(e.trainings),
            "seconds": sum(t.finished.training_seconds for t in e.trainings if t.finished),
            "input_tokens": e.usage.input_tokens,
            "output_tokens": e.usage.output_tokens,
            "dollars": e.usage.dollars,
            "evidence": clean(e.evidence),
            "description": clean(e.description),
            "hypothesis": clean(e.hypothesis),
            "reason": clean(e.reason),
            "seats": " ".join(str(t.started.seat) for t in e.trainings),
            "agent": clean(e.agent),
        }
        for e in state.experiments
        if e.judged
    ]


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with in a spreadsheet; the last four where East Asian languages are written."""


def as_csv(state: RunState) -> str:
    """The same table as CSV, its columns in the order of `COLUMNS`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(cell) for name, cell in row.items()} for row in table(state))
    return out.getvalue()


def _no_formula(cell: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with the sign in front that makes it a text."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
