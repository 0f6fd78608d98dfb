"""Counts the graphs that torch.compile makes of the GPU profile's loss, scaled down, on a CPU.

    AUTORESEARCH_PROFILE=h100 python -m tests.lab.graphs FOLDER

FOLDER holds the train.py. Prints how many graphs three steps with changing weights took: one, if nothing
breaks the graph and nothing is compiled again.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch._dynamo.utils

SMALL = {"DEPTH": 2, "WIDTH": 128, "HEAD_DIM": 32, "NGRAM_ROWS": 1024, "ROWS": 2}


def main(folder: str) -> None:
    """Train the small model for three steps, and print what was compiled."""
    sys.path.insert(0, folder)
    import train

    for name, value in SMALL.items():
        setattr(train, name, value)
    assert train.LARGE, "start this with AUTORESEARCH_PROFILE=h100"
    model = train.GPT(256, 64, 0)
    compiled: Any = torch.compile(model.log_probabilities, dynamic=False, fullgraph=True, backend="aot_eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(3):
        tokens = torch.randint(0, 256, (2, 64), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (-compiled(tokens, tokens).mean()).backward()
        optimizer.step()
    print(f"graphs: {torch._dynamo.utils.counters['stats']['unique_graphs']}")


if __name__ == "__main__":
    main(sys.argv[1])
