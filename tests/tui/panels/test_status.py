"""The status line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from loop import events as ev
from tests.tui.conftest import Open
from tests.tui.pilot import WIDE, settle
from tests.tui.recorded import Script, night
from tui.panels.status import FIELDS, Part, Status, choose, fit, load, parts
from tui.settings import NAME

GONE = "engine gone, waiting for it"


def test_the_status_line_drops_its_end() -> None:
    pieces = [Part("run"), Part("x" * 20), Part("best")]
    assert fit(pieces, 34).plain == f"run   {'x' * 20}"
    assert fit(pieces, 36).plain == f"run   {'x' * 20}   best"
    assert fit(pieces, 2).plain == "run", "the first one always stays"


def test_the_fence_of_the_trainings_stays_at_every_width() -> None:
    assert words(night())[-1] == "sandbox full"
    pieces = parts(fenced("partial: files, signals open").state, "", 0.0)
    assert fit(pieces, 220).plain.endswith("sandbox partial: files, signals open")
    for width in range(110, 39, -1):
        assert fit(pieces, width).plain.endswith("   sandbox partial"), width
    assert [fit(parts(fenced(kind).state, "", 0.0), 60).plain[-12:] for kind in ("off", "none")] == [
        " sandbox off",
        "sandbox none",
    ]


def test_a_run_without_a_fence_says_so_whatever_the_settings_say() -> None:
    assert words(fenced("off"), fields=["phase"]) == ["● training 25", "sandbox off"]
    assert words(fenced("full"), fields=["phase"]) == ["● training 25"]


@pytest.mark.parametrize(
    ("width", "gone", "all_at_once"),
    [
        (
            80,
            f"autoresearch/nov23   {GONE}   sandbox full",
            f"{GONE}   ? the agent asks   ■ stopping   sandbox full",
        ),
        (60, f"{GONE}   sandbox full", f"{GONE}   ? the agent asks"),
        (40, GONE, GONE),
    ],
)
def test_what_needs_attention_stays_longest(width: int, gone: str, all_at_once: str) -> None:
    assert fit(parts(night().state, GONE, 0.0), width).plain == gone
    script = night().add(ev.PermissionAsked(26, "1", "ls", "execute"), ev.EngineStopping("stopped by hand"))
    assert fit(parts(script.state, GONE, 0.0), width).plain == all_at_once


def words(script: Script, trouble: str = "", fields: Sequence[str] = tuple(FIELDS)) -> list[str]:
    return [part.text for part in parts(script.state, trouble, script.t, fields)]


def fenced(sandbox: str) -> Script:
    """The recorded night, with another fence."""
    script = night()
    assert script.state.engine is not None
    script.state.engine = msgspec.structs.replace(script.state.engine, sandbox=sandbox)
    return script


def test_it_says_where_the_run_stands() -> None:
    found = words(night())
    assert found[:3] == ["autoresearch/nov23", "● training 25", "best 0.9822 (-1.77%)"]
    assert "GPU 97% 60 GB 61°C 655 W" in found


def test_it_says_that_the_engine_will_stop() -> None:
    script = night()
    assert "■ stopping" not in words(script)
    script.add(ev.EngineStopping("stopped by hand"))
    assert words(script)[1:3] == ["● training 25", "■ stopping"]
    script.add(ev.EngineStopped("stopped by hand"))
    assert "■ stopping" not in words(script)


def test_it_says_that_an_agent_waits_for_an_answer() -> None:
    script = night().add(ev.PermissionAsked(26, "26.1", "pip install", "execute"))
    assert words(script)[2] == "? the agent asks"
    assert words(script.add(ev.PermissionAnswered(26, "26.1", True)))[2].startswith("best")


def test_it_says_what_is_wrong_with_the_connection() -> None:
    assert words(Script())[:2] == ["autoresearch", "◌ connecting"]
    assert words(night(), "engine gone")[2] == "engine gone"


def test_without_a_gpu_it_shows_the_processor() -> None:
    assert load(ev.Telemetry(37.0, 4.2, 24.0)) == "CPU 37% 4.2/24 GB"


def test_several_gpus_are_summed_up_with_the_hottest() -> None:
    gpus = [ev.Gpu("H100", 90.0, 60.0, 80.0, 61.0, 600.0), ev.Gpu("H100", 100.0, 70.0, 80.0, 78.0, 650.0)]
    assert load(ev.Telemetry(37.0, 4.2, 24.0, gpus)) == "2 GPUs 95% 130 GB max 78°C 1250 W"
    assert load(ev.Telemetry(37.0, 4.2, 24.0, [*gpus, ev.Gpu()])) == "3 GPUs 95% 130 GB max 78°C 1250 W"
    assert load(ev.Telemetry(37.0, 4.2, 24.0, [ev.Gpu("MIG", None, 5.0)])) == "GPU 5 GB"


def test_the_settings_choose_the_fields_and_their_order() -> None:
    fields, problems = choose(["best", "phase", "best", "mashine", "x"])
    assert fields == ["best", "phase"]
    assert problems == [
        'status_line: there is no field "mashine", perhaps "machine"',
        'status_line: there is no field "x"',
    ]
    script = night().add(ev.EngineStopping("stopped by hand"))
    found = words(script, "engine gone", fields)
    assert found == ["best 0.9822 (-1.77%)", "● training 25", "engine gone", "■ stopping"]
    alone = words(script, "engine gone", ["best"])
    assert alone == ["engine gone", "■ stopping", "best 0.9822 (-1.77%)"], "what is wrong is always shown"
    assert choose(["x"])[0] == list(FIELDS)


def test_each_field_is_explained_in_the_documents() -> None:
    text = (Path(__file__).parents[3] / "docs" / "cockpit.md").read_text()
    for name, field in FIELDS.items():
        assert f"| `{name}` | {(field.__doc__ or '').rstrip('.')} |" in text


async def test_the_line_has_the_fields_of_the_settings(cockpit: Open, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / NAME).write_text('{"status_line": ["phase", "run", "mashine"]}')
    app = cockpit(night())
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot)
        assert str(app.screen.query_one("#status", Status).content) == "● training 25   autoresearch/nov23"
        assert ['no field "mashine"' in n.message for n in app._notifications] == [True]
