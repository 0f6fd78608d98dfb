"""What the cockpit writes to a real terminal."""

from __future__ import annotations

from tests.e2e.terminal import Terminal

KIB = 1024


def settle(terminal: Terminal, seconds: float = 0.5) -> None:
    """Take in what is written until nothing more comes for a while, but for the countdown."""
    for _ in range(20):
        terminal.output = b""
        terminal.read(seconds)
        if len(terminal.output) < 100:
            return


def test_the_first_frame_is_small_and_drawn_once(terminal: Terminal) -> None:
    assert len(terminal.output) < 40 * KIB
    assert terminal.output.count(b"autoresearch/nov23") == terminal.text.count("autoresearch/nov23") == 1


def test_after_a_resize_all_is_drawn_again(terminal: Terminal) -> None:
    settle(terminal)
    terminal.resize(100, 36)
    terminal.wait_for("q Detach")
    settle(terminal)
    terminal.resize(120, 40)
    terminal.wait_for("autoresearch/nov23", "? waiting 3", "q Detach")


def test_a_size_that_changes_back_at_once_leaves_nothing_cut_off(terminal: Terminal) -> None:
    settle(terminal)
    terminal.resize(60, 40)
    terminal.resize(120, 40)
    assert "q Detach" not in terminal.text or "val_bpb, best so far" not in terminal.text
    terminal.wait_for("autoresearch/nov23", "? waiting 3", "val_bpb, best so far")


def test_a_frame_in_which_little_changes_is_little(terminal: Terminal) -> None:
    settle(terminal)
    terminal.output = b""
    for _ in range(12):
        terminal.read(0.25)
    assert len(terminal.output) < 3 * KIB


def test_what_another_program_wrote_over_is_drawn_again(terminal: Terminal) -> None:
    settle(terminal)
    terminal.draw(b"\x1b[2J")
    assert "autoresearch/nov23" not in terminal.text
    terminal.press("\x0c")
    terminal.wait_for("autoresearch/nov23", "? waiting 3", "q Detach")
