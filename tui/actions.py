"""Every key and what it does, in one table: bindings, footer, command palette and help are made from it.

The settings file may give an action other keys than the table does: see `tui.keys`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from textual.binding import Binding, BindingType

from loop.state import RunState

Available = Callable[[RunState], bool]


def _always(state: RunState) -> bool:
    return True


def _connected(state: RunState) -> bool:
    return bool(state.tag) and state.stopped is None


def _waiting(state: RunState) -> bool:
    return _connected(state) and state.waiting is not None


def _asked(state: RunState) -> bool:
    return _connected(state) and (state.waiting is not None or bool(state.live.asked))


def _queue(state: RunState) -> bool:
    return _connected(state) and state.approval and bool(state.queue)


def _refusable(state: RunState) -> bool:
    return _asked(state) or _queue(state)


def _training(state: RunState) -> bool:
    return _connected(state) and state.training is not None


def _any(state: RunState) -> bool:
    return bool(state.experiments)


IDS = {
    "app.focus_next": "next_panel",
    "app.pop_screen": "back",
    "app.quit": "detach",
    "walk(-1)": "previous",
    "walk(1)": "next",
    "hunk(-1)": "previous_change",
    "hunk(1)": "next_change",
    "move(-1)": "move_up",
    "move(1)": "move_down",
    "page(-1)": "page_up",
    "page(1)": "page_down",
    "end(-1)": "to_top",
    "end(1)": "to_end",
    "scroll_left": "move_left",
    "scroll_right": "move_right",
}
"""Names of actions in the settings file that do not follow from the names of their methods."""


class Action(NamedTuple):
    """One key and what it does."""

    key: str
    """As Textual spells it; several keys are separated by commas."""
    name: str
    """The screen's method `action_<name>`; with `app.` in front, the app's."""
    label: str
    """Its name in the footer and the palette."""
    help: str
    """What it does, for the help screen and the palette."""
    group: str
    """The part of the help screen it stands in."""
    footer: int = 0
    """0: the footer does not show it. Where the footer is too narrow, the highest numbers are left out."""
    available: Available = _always
    """Whether it would do anything in this state."""

    @property
    def id(self) -> str:
        """Its name in the settings file. Actions of several screens that share it share their keys."""
        if self.group == "Comparison" and self.name.startswith("tab("):
            return self.name.replace("tab('", "compare_").removesuffix("')")
        return IDS.get(self.name) or re.sub(r"\W+", "_", self.name).strip("_")


ACTIONS = (
    Action("space", "pause", "Pause", "pause after this training, or go on", "Run", 4, _connected),
    Action("a", "approve", "Approve", "train the candidate, or allow what is asked", "Run", 1, _asked),
    Action(
        "r", "reject", "Reject", "refuse the candidate (asks why), or what is asked", "Run", 1, _refusable
    ),
    Action(
        "u",
        "first",
        "Train first",
        "train the candidate under the cursor before all others",
        "Run",
        0,
        _queue,
    ),
    Action("e", "edit", "Edit", "edit the waiting candidate in $EDITOR", "Run", 7, _waiting),
    Action("s", "stop_training", "End training", "end the training shown now", "Run", 5, _training),
    Action("i", "steer", "Steer", "write to the agent: it reads it at its next step", "Run", 6, _connected),
    Action(
        "I",
        "messages",
        "Messages",
        "messages that wait for the agent: take one back",
        "Run",
        0,
        _connected,
    ),
    Action(
        "L",
        "limits",
        "Limits",
        "when the run ends by itself: experiments, hours, cost, a goal",
        "Run",
        0,
        _connected,
    ),
    Action("A", "mode", "Approval", "every candidate waits for you, or none does", "Run", 0, _connected),
    Action("Q", "stop_engine", "Stop run", "stop the run: its engine ends (asks)", "Run", 4, _connected),
    Action("enter", "open", "Open", "open the experiment under the cursor", "Past", 8, _any),
    Action("left_square_bracket", "walk(-1)", "Previous", "the experiment before", "Past", 0, _any),
    Action("right_square_bracket", "walk(1)", "Next", "the experiment after", "Past", 0, _any),
    Action("b", "best", "Best", "go to the incumbent", "Past", 0, _any),
    Action("slash", "filter", "Filter", "show matching experiments: words, !word, status:keep", "Past"),
    Action("o", "sort", "Sort", "sort by number, val_bpb or status", "Past"),
    Action("m", "mark", "Mark", "mark the experiment under the cursor, to compare it", "Past", 0, _any),
    Action(
        "c",
        "compare",
        "Compare",
        "compare the marked experiments, or this one with the incumbent",
        "Past",
        0,
        _any,
    ),
    Action("y", "copy", "Copy", "copy the commit (through the terminal)", "Past", 0, _any),
    Action("w", "runs", "Runs", "all runs on this machine: what they do, and go to one", "Look"),
    Action("tab", "app.focus_next", "Next panel", "next panel", "Look"),
    Action("1", "panel('agent')", "Agent", "the agent's transcript", "Look"),
    Action("2", "panel('diff')", "Diff", "candidate against incumbent", "Look"),
    Action("3", "panel('results')", "Results", "results.tsv", "Look"),
    Action("4", "panel('plot')", "Plot", "val_bpb over experiments", "Look"),
    Action(
        "5",
        "seats",
        "Seats",
        "the seats; arrows choose the one that the strip follows",
        "Look",
    ),
    Action("6", "system", "System", "GPUs, processor and memory in the last ten minutes", "Look"),
    Action("z", "zoom", "Zoom", "one panel on the whole screen, and back", "Look"),
    Action("f", "follow", "Follow", "follow the newest text again", "Look"),
    Action(
        "p", "conversation", "Next agent", "with several agents at work: one's conversation, or all", "Look"
    ),
    Action("d", "split", "Split", "diff in one column or two", "Look"),
    Action("W", "wrap", "Wrap", "wrap long lines of the diff", "Look"),
    Action("n", "hunk(1)", "Next hunk", "next change in the diff", "Look"),
    Action("N", "hunk(-1)", "Previous hunk", "previous change in the diff", "Look"),
    Action("l", "log", "Log", "what the trainer prints", "Look"),
    Action("t", "theme", "Theme", "dark, light, or the terminal's own colours", "Look"),
    Action("question_mark", "help", "Help", "all keys", "Look", 1),
    Action("q", "app.quit", "Detach", "leave the cockpit; the engine goes on", "Look", 1),
)
"""Keys of the main screen."""
IN_EXPERIMENT = (
    Action("escape,q", "app.pop_screen", "Back", "back to the panels", "Experiment", 1),
    Action(
        "left_square_bracket", "walk(-1)", "Prev", "the experiment before; the tab stays", "Experiment", 1
    ),
    Action("right_square_bracket", "walk(1)", "Next", "the experiment after", "Experiment", 1),
    Action("1", "tab('diff')", "Diff", "its change to its parent", "Experiment"),
    Action("2", "tab('log')", "Log", "what the trainer printed", "Experiment"),
    Action("3", "tab('transcript')", "Transcript", "what the agent said and did", "Experiment"),
    Action("4", "tab('curve')", "Curve", "its loss against the incumbent's", "Experiment"),
    Action("5", "tab('trainings')", "Trainings", "seeds, reruns and what each measured", "Experiment"),
    Action("y", "copy", "Copy", "copy the commit (through the terminal)", "Experiment", 3),
    Action("Y", "copy_patch", "Copy patch", "copy the change as a patch", "Experiment"),
    Action("x", "export", "Save patch", "save the change as a patch file", "Experiment", 3),
    Action("e", "look", "Editor", "read its file in $EDITOR", "Experiment", 3),
    Action("R", "again", "Train again", "train it once more, with another seed", "Experiment", 2),
    Action("K", "override('keep')", "Keep", "change the verdict to keep (asks)", "Experiment"),
    Action("D", "override('discard')", "Discard", "change the verdict to discard (asks)", "Experiment"),
    Action("d", "split", "Split", "diff in one column or two", "Experiment"),
    Action("W", "wrap", "Wrap", "wrap long lines of the diff", "Experiment"),
    Action("n", "hunk(1)", "Next hunk", "next change in the diff", "Experiment"),
    Action("N", "hunk(-1)", "Previous hunk", "previous change in the diff", "Experiment"),
)
"""Keys of the screen of one experiment."""
IN_COMPARISON = (
    Action("escape,q", "app.pop_screen", "Back", "back to the panels", "Comparison", 1),
    Action("1", "tab('figures')", "Figures", "verdicts and what the trainings printed", "Comparison", 1),
    Action("2", "tab('curves')", "Curves", "the loss curves in one picture", "Comparison", 1),
    Action("3", "tab('diff')", "Diff", "the diff of two of them", "Comparison", 1),
    Action("4", "tab('lineage')", "Lineage", "which keeps led to the incumbent", "Comparison", 1),
    Action("left_square_bracket", "walk(-1)", "Prev pair", "the diff of the pair before", "Comparison"),
    Action("right_square_bracket", "walk(1)", "Next pair", "the diff of the next pair", "Comparison", 2),
    Action("d", "split", "Split", "diff in one column or two", "Comparison"),
    Action("W", "wrap", "Wrap", "wrap long lines of the diff", "Comparison"),
    Action("n", "hunk(1)", "Next hunk", "next change in the diff", "Comparison"),
    Action("N", "hunk(-1)", "Previous hunk", "previous change in the diff", "Comparison"),
)
"""Keys of the screen that compares experiments."""
TAKE_BACK = Action("x,delete", "take_back", "Take back", "take back the message under the cursor", "Lists")
CHOOSE = Action(
    "enter", "choose", "Open", "go to the run under the cursor; open or close a message", "Lists", 1
)
NEW_RUN = Action("n", "new_run", "New run", "a new run: asks for agent, budget, limits", "Lists")
IN_LISTS = (TAKE_BACK, CHOOSE, NEW_RUN)
"""Keys of the list of messages and of the list of runs; `choose` is one of the transcript, too."""
MOVES = (
    Action("up,k", "move(-1)", "Up", "up", "Move"),
    Action("down,j", "move(1)", "Down", "down", "Move"),
    Action("pageup,ctrl+b", "page(-1)", "Page up", "up by a page", "Move"),
    Action("pagedown,ctrl+f", "page(1)", "Page down", "down by a page", "Move"),
    Action("g,home", "end(-1)", "Top", "to the first line", "Move"),
    Action("G,end", "end(1)", "End", "to the last line; there a text follows what is new", "Move"),
    Action("left", "scroll_left", "Left", "sideways", "Move"),
    Action("right", "scroll_right", "Right", "sideways", "Move"),
)
"""Keys of each panel."""
EVERY_ACTION = (*ACTIONS, *IN_EXPERIMENT, *IN_COMPARISON, *IN_LISTS, *MOVES)
"""All keys of all screens."""
ON_EVERY_SCREEN = tuple(a for a in ACTIONS if a.group == "Run" or a.name in ("theme", "help"))
"""Keys that the screen of one experiment has as well."""
ACTIONS_BY_NAME = {action.name.partition("(")[0]: action for action in ACTIONS}
"""The same by the names of their methods, without arguments in brackets."""
FIXED = "escape"
"""Always goes back, whatever the settings say: nobody must be locked into a screen."""


def closed_by(id: str, action: str = "dismiss") -> list[BindingType]:
    """The bindings that close a list over the screen: also the key that has opened it, action `id`."""
    opener = next(a for a in ACTIONS if a.id == id)
    return [
        Binding(FIXED, action, "Back"),
        Binding("q", action, "Back", id="back"),
        Binding(opener.key, action, "Back", id=id),
    ]


def bindings(actions: Iterable[Action]) -> list[BindingType]:
    """The bindings of these actions, as a screen of Textual takes them.

    Where two actions have a key, the first one gets it: in an experiment `e` opens the editor for any file.
    """
    taken = set[str]()
    found: list[BindingType] = []
    for a in actions:
        free = [key for key in a.key.split(",") if key not in taken]
        taken.update(free)
        found += [
            Binding(key, a.name, a.label, bool(a.footer), tooltip=a.help, id=None if key == FIXED else a.id)
            for key in free
        ]
    return found
