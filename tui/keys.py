"""The keys of all actions: those of the table `tui.actions`, or others where the settings file names some."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from textual.binding import Binding
from textual.keys import Keys as Known
from textual.keys import format_key

from tui.actions import (
    ACTIONS,
    CHOOSE,
    EVERY_ACTION,
    FIXED,
    IN_COMPARISON,
    IN_EXPERIMENT,
    IN_LISTS,
    MOVES,
    ON_EVERY_SCREEN,
    Action,
)

UNBOUND = "no_key"
"""Textual's keymap cannot take a key away. So an action without one gets this, which no terminal sends."""
DEFAULTS = {action.id: action.key for action in EVERY_ACTION}
OTHERS = ("escape", "shift+tab", "ctrl+p", "ctrl+q", "ctrl+c", "super+c")
"""Keys that Textual or every screen has: they cannot be given to an action."""
MODIFIERS = {"ctrl", "alt", "shift", "super", "hyper", "meta"}
NAMED = {key.value for key in Known if key.value[0] != "<"}
NAMES = {
    "escape": "esc", "pageup": "PgUp", "pagedown": "PgDn", "enter": "enter", "delete": "del",
    "backspace": "backspace",
}  # fmt: skip
"""Keys that are not written as Textual would write them."""


def _ids(*actions: Action) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action.id for action in actions))


ANSWERS = ("a", "n", "y")
"""Keys with which questions are answered; there, `back` goes back."""
SCREENS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (_ids(*ACTIONS, *MOVES, CHOOSE), OTHERS),
    (_ids(*IN_EXPERIMENT, *ON_EVERY_SCREEN, *MOVES, CHOOSE), OTHERS),
    (_ids(*IN_COMPARISON, *ON_EVERY_SCREEN, *MOVES), OTHERS),
    (("back", "help", "log", "messages", "runs", "system", *_ids(*IN_LISTS, *MOVES)), OTHERS),
    (("back",), (*OTHERS, *ANSWERS)),
)
"""What has a key at the same time: the actions of each screen and of the lists, and keys that are taken."""


DECISIONS = {"approve": "approves", "reject": "rejects", "edit": "edits"}
"""What can be done with a candidate that waits, for `Keys.hint`."""


class Clash(NamedTuple):
    """Action `id` cannot have `key`: it is a key of `other`, or of the cockpit itself if that is empty."""

    id: str
    key: str
    other: str


class Keys:
    """The keys that are in force. `wanted` gives actions, by their ids, other keys than the table's.

    Keys are written as Textual spells them, several with commas between; none take the action's key away.
    What cannot be done is left out, and `problems` says so.
    """

    def __init__(self, wanted: Mapping[str, str] | None = None) -> None:
        self.problems: list[str] = []
        self._chosen = self._choose(wanted or {})

    @property
    def keymap(self) -> dict[str, str]:
        """What differs from the table, as `App.set_keymap` takes it."""
        return {id: keys or UNBOUND for id, keys in self._chosen.items()}

    def names(self, id: str) -> str:
        """The keys of an action as people write them; empty when it has none."""
        fixed = [FIXED] if FIXED in DEFAULTS[id].split(",") else []
        return key_name(",".join([*fixed, *(k for k in _split(self._of(id)) if k != FIXED)]))

    def __getitem__(self, id: str) -> str:
        """The first key of an action as people write it; empty when it has none."""
        return self.names(id).partition(" ")[0]

    def hint(self, *first: str, **words: str) -> str:
        """What keys do, e.g. `a approves, r rejects`, without the actions that have no key, after `first`."""
        return ", ".join([*first, *(f"{self[id]} {text}" for id, text in words.items() if self[id])])

    def _of(self, id: str) -> str:
        return self._chosen.get(id, DEFAULTS[id])

    def _choose(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The wishes that can be fulfilled."""
        chosen: dict[str, str] = {}
        for id, text in wanted.items():
            keys = _split(text)
            unknown = next((key for key in keys if not _known(key)), None)
            if id not in DEFAULTS:
                near = get_close_matches(id, DEFAULTS, 1)
                self.problems.append(
                    f'keys: there is no action "{id}"' + (f', perhaps "{near[0]}"' if near else "")
                )
            elif unknown is not None:
                self._refuse(id, f'has no key "{unknown}": no terminal sends it')
            elif keys != _split(DEFAULTS[id]):
                chosen[id] = ",".join(keys)
        while clash := _clash(chosen):
            id, key, other = clash
            del chosen[id]
            whose = f'the key of "{other}"' if other else "which the cockpit needs"
            self._refuse(id, f'cannot have "{key_name(key)}", {whose}')
        return chosen

    def _refuse(self, id: str, why: str) -> None:
        self.problems.append(f'keys: "{id}" {why}; it keeps "{key_name(DEFAULTS[id])}"')


def key_name(keys: str) -> str:
    """Keys as people write them, e.g. `[` for `left_square_bracket`."""
    return " ".join(_name(key) for key in _split(keys))


def _name(key: str) -> str:
    *modifiers, last = key.split("+")
    return "+".join([*modifiers, NAMES.get(last) or format_key(last)])


def _split(keys: str) -> list[str]:
    """The single keys, each as Textual spells it."""
    found = [key.strip() for key in keys.split(",") if key.strip()]
    return [binding.key for binding in Binding.make_bindings([Binding(",".join(found), "")])] if found else []


def _known(key: str) -> bool:
    """Whether there is such a key. With shift, a character has a name of its own: `A`, not `shift+a`."""
    *modifiers, last = key.split("+")
    is_character = len(format_key(last)) == 1 and last not in NAMED
    if not set(modifiers) <= MODIFIERS or ("shift" in modifiers and is_character):
        return key in NAMED
    return last in NAMED or is_character


def _clash(chosen: Mapping[str, str]) -> Clash | None:
    """A chosen key that another action of the same screen has."""
    for ids, taken in SCREENS:
        owners = dict.fromkeys(taken, "")
        for id in ids:
            if id not in chosen:
                owners = dict.fromkeys(_split(DEFAULTS[id]), id) | owners
        for id in chosen:
            for key in _split(chosen[id]) if id in ids else ():
                if owners.setdefault(key, id) != id and not (key == FIXED and FIXED in DEFAULTS[id]):
                    return Clash(id, key, owners[key])
    return None
