"""The status line."""

from __future__ import annotations

from loop import events as ev
from tests.tui.recorded import Script, night
from tui.panels.status import fit, machine, parts


def test_the_status_line_drops_what_matters_least() -> None:
    line = fit([(1, "run", ""), (9, "x" * 20, ""), (2, "best", "")], 20)
    assert line.plain == "run   best"


def words(script: Script, trouble: str = "") -> list[str]:
    return [text for _, text, _ in parts(script.state, trouble, script.t)]


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


def test_it_says_what_is_wrong_with_the_connection() -> None:
    assert words(Script())[:2] == ["autoresearch", "◌ connecting"]
    assert words(night(), "engine gone")[2] == "engine gone"


def test_without_a_gpu_it_shows_the_processor() -> None:
    assert machine(ev.Telemetry(37.0, 4.2, 24.0)) == "CPU 37% 4.2/24 GB"
