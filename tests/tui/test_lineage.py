"""Where the incumbent comes from."""

from __future__ import annotations

from loop import events as ev
from tests.tui.recorded import Script, commit
from tui.lineage import graph, links


def run() -> Script:
    """#1 and #3 are kept; #2 was tried on #1, #4 crashed on #3, #5 puts two others together and is kept."""
    script = Script().begin()
    parents = {1: 0, 2: 1, 3: 1, 4: 3, 5: 3}
    for n, status in ((1, "keep"), (2, "discard"), (3, "keep"), (4, "crash"), (5, "keep")):
        script.add(
            ev.ExperimentStarted(n, commit(parents[n])),
            ev.CandidateCommitted(
                n, commit(n), commit(parents[n]), f"idea {n}", combines=[2, 4] if n == 5 else []
            ),
        ).train(n)
        value = None if status == "crash" else 1.0 - n / 100
        script.add(
            ev.TrainingFinished(n, 1, "finished", value=value),
            ev.Judged(n, status, commit(n), value, 1.0, "", delta=-0.01 if n in (3, 5) else None),  # type: ignore[arg-type]
        )
    return script


def test_the_chain_follows_the_parents_and_counts_what_was_tried() -> None:
    chain = links(run().state)
    assert [link.keep.n for link in chain] == [1, 3, 5]
    assert [[e.n for e in link.tried] for link in chain] == [[2], [4], []]


def test_the_graph_in_words() -> None:
    lines = [line.plain for line in graph(run().state)]
    assert lines[0].startswith("✓  #1")
    assert lines[1] == "├─ 1 idea discarded"
    assert lines[2].startswith("│  -0.0100")
    assert "├─ 1 crashed" in lines
    assert "│  puts together #2, #4" in lines
    assert "★ idea 5" in lines[-2]


def test_before_the_first_keep() -> None:
    assert graph(Script().begin().state) == []
