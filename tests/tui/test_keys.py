"""Keys that the settings file changes: what is accepted, and that every text on the screen names them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from textual.widgets._footer import FooterKey

from loop import events as ev
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import WIDE, press, settle
from tests.tui.recorded import queue, training, waiting
from tui.actions import EVERY_ACTION
from tui.keys import DEFAULTS, Keys, key_name
from tui.palette import Actions
from tui.settings import NAME

MOVED = {
    "approve": "ctrl+a", "reject": "f2", "edit": "f3", "first": "f4", "pause": "f5", "steer": "f6",
    "detach": "f7", "stop_training": "", "panel_agent": "f8", "help": "f9", "back": "f10",
}  # fmt: skip
"""Wishes of a user, one of them to have no key."""


@pytest.fixture
def moved(cockpit: Open, tmp_path: Path) -> Open:
    """Makes cockpits with the keys of `MOVED`."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / NAME).write_text(json.dumps({"keys": MOVED}))
    return cockpit


def test_keys_are_written_as_people_write_them() -> None:
    assert key_name("left_square_bracket") == "["
    assert key_name("escape,q") == "esc q"
    assert key_name("ctrl+a,pageup,?,space,up") == "ctrl+a PgUp ? space ↑"


def test_wishes_are_fulfilled() -> None:
    keys = Keys({"pause": "h,ctrl+s", "steer": "", "help": "v, ?"})
    assert keys.problems == []
    assert keys.keymap == {"pause": "h,ctrl+s", "steer": "no_key", "help": "v,question_mark"}
    assert (keys["pause"], keys["steer"], keys.names("help"), keys["open"]) == ("h", "", "v ?", "enter")
    assert keys.hint("esc goes back", pause="pauses", steer="writes") == "esc goes back, h pauses"


def test_two_actions_can_change_places_also_with_a_third() -> None:
    assert not Keys({"approve": "r", "reject": "a"}).problems
    assert not Keys({"approve": "r", "reject": "s", "stop_training": "a"}).problems


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"aprove": "b"}, 'keys: there is no action "aprove", perhaps "approve"'),
        ({"zzz": "b"}, 'keys: there is no action "zzz"'),
        ({"approve": "ctrll+b"}, 'keys: "approve" has no key "ctrll+b": no terminal sends it; it keeps "a"'),
        ({"approve": "shift+b"}, 'keys: "approve" has no key "shift+b": no terminal sends it; it keeps "a"'),
        ({"approve": "s"}, 'keys: "approve" cannot have "s", the key of "stop_training"; it keeps "a"'),
        ({"approve": "j"}, 'keys: "approve" cannot have "j", the key of "move_down"; it keeps "a"'),
        ({"steer": "x"}, 'keys: "steer" cannot have "x", the key of "export"; it keeps "i"'),
        ({"wrap": "ctrl+p"}, 'keys: "wrap" cannot have "ctrl+p", which the cockpit needs; it keeps "W"'),
        ({"back": "a"}, 'keys: "back" cannot have "a", the key of "approve"; it keeps "esc q"'),
        ({"pause": "h", "sort": "h"}, 'keys: "sort" cannot have "h", the key of "pause"; it keeps "o"'),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line_and_the_default_stays(wanted: dict[str, str], problem: str) -> None:
    keys = Keys(wanted)
    assert keys.problems == [problem]
    refused = problem.split('"')[1]
    assert refused not in keys.keymap
    assert refused not in DEFAULTS or keys.names(refused) == key_name(DEFAULTS[refused])


def test_a_refused_wish_may_refuse_another_one() -> None:
    """`approve` cannot have `s`, so `reject` cannot have its old key."""
    keys = Keys({"approve": "s", "reject": "a"})
    assert keys.keymap == {}
    assert [line.split('"')[1] for line in keys.problems] == ["approve", "reject"]


def test_the_keys_that_answer_a_question_cannot_go_back_from_it() -> None:
    assert Keys({"next_change": "ctrl+n", "new_run": "ctrl+t", "back": "n"}).problems == [
        'keys: "back" cannot have "n", which the cockpit needs; it keeps "esc q"'
    ]


def test_each_action_can_be_moved() -> None:
    for id in DEFAULTS:
        assert not Keys({id: "f20"}).problems
        assert not Keys({id: ""}).problems


async def test_the_new_key_acts_and_the_old_one_does_not(moved: Open) -> None:
    connection = waiting()
    async with moved(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("a", "r", "space")
        await settle(pilot)
        assert connection.sent == []
        await pilot.press("ctrl+a", "f5")
        await settle(pilot)
        assert connection.sent == [ev.Approve(3), ev.Pause()]
        await pilot.press("f9", "f9", "f9", "f10", "f9", "escape", "enter", "f10", "enter", "escape")
        await settle(pilot)
        assert len(pilot.app.screen_stack) == 1


async def test_an_action_without_a_key_is_left_to_the_palette(moved: Open) -> None:
    connection = training()
    async with moved(connection).run_test(size=WIDE) as pilot:
        await settle(pilot)
        await pilot.press("s", "no_key")
        await settle(pilot)
        assert [str(sent) for sent in connection.sent if not isinstance(sent, ev.StopTraining)] == []
        assert "End training" not in [key.description for key in pilot.app.screen.query(FooterKey)]
        found = {hit.help: str(hit.display) async for hit in Actions(pilot.app.screen).discover()}  # type: ignore[union-attr]
        assert found["end the training shown now"] == "End training"
        assert found["pause after this training, or go on"] == "Pause (f5)"


async def test_every_text_names_the_keys_in_force(moved: Open) -> None:
    connection = queue()
    connection.push(ev.ApprovalRequested(4))
    app = moved(connection)
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        footer = [(key.key_display, key.description) for key in pilot.app.screen.query(FooterKey)]
        assert footer[:4] == [("f5", "Pause"), ("ctrl+a", "Approve"), ("f2", "Reject"), ("f3", "Edit")]
        assert footer[-2:] == [("f9", "Help"), ("f7", "Detach")]
        words = "\n".join(item.body.plain for item in app.main.diff.items)
        assert "ctrl+a approves, f2 rejects, f3 edits" in words
        assert "(the cursor picks, f4 trains first)" in words
        connection.push(ev.PermissionAsked(8, "8.1", "pip install", "execute"))
        await settle(pilot)
        assert "ctrl+a allows, f2 refuses" in str(app.main.transcript.border_subtitle)
        await pilot.press("I")
        await settle(pilot)
        assert "f6 writes one" in pilot.app.screen.query_one("#messages").empty  # type: ignore[attr-defined]


@pytest.mark.parametrize("keys", [("f9",), ()])
def test_looks(moved: Open, snap_compare: Snap, keys: tuple[str, ...]) -> None:
    """The help, and the main screen with one panel at a time."""
    assert snap_compare(moved(waiting()), terminal_size=(80, 24), run_before=press(*keys))


async def test_what_is_wrong_with_the_settings_is_said_at_the_start(cockpit: Open, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / NAME).write_text('{"keys": {"approve": "s", "steeer": "p"}}')
    app = cockpit(training())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert [n.message for n in app._notifications] == [
            'keys: there is no action "steeer", perhaps "steer"',
            'keys: "approve" cannot have "s", the key of "stop_training"; it keeps "a"',
        ]


def test_the_documents_list_each_action() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cockpit.md").read_text()
    for action in EVERY_ACTION:
        assert f"| `{action.id}` | `{key_name(action.key)}` | " in text


def test_no_text_of_the_cockpit_names_a_key_by_itself() -> None:
    """`a approves`, `press s`: the user may have moved these keys. `Keys.hint` knows them."""
    verbs = "approves|rejects|allows|refuses|edits|decides|goes|leaves|marks|trains|writes|takes|shows"
    named = re.compile(rf"[\"' (,](?:press |[a-zA-Z]|space|enter|tab|F\d) (?:{verbs})\b")
    for path in (Path(__file__).parents[2] / "tui").rglob("*.py"):
        tree = ast.parse(path.read_text())
        documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
                assert not named.search(f" {node.value}"), f"{path}:{node.lineno}: {node.value}"
