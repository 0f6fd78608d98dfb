"""Trains a plain GPT, the baseline that benchmarks/trainer.py compares nanogpt/train.py with.

    PLAIN_LR=6e-3 python benchmarks/plain_gpt.py

It is built as GPT-2 was (Radford et al. 2019): LayerNorm, learned positions, GELU, head and embedding share
their weights; AdamW with warm-up and a cosine schedule. Depth, width, rows a step, data, clock and evaluation
are those of nanogpt on a CPU, and so are AUTORESEARCH_BUDGET_S and the other variables. The environment
variable PLAIN_LR is the peak learning rate (3e-3). It prints val_bpb and the number of steps.

Shapes in comments: B rows, T tokens a row, D width, V tokens of vocabulary.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "nanogpt"))

from prepare import Clock, evaluate, load

DEPTH, WIDTH, HEADS, ROWS = 2, 128, 4, 8
WARM_UP, FINAL = 0.02, 0.1
"""The share of the budget in which the learning rate rises, and the share of its peak left at the end."""


class Block(nn.Module):
    """Causal attention and an MLP, each after a LayerNorm and added to the residual stream (B, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, WIDTH))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return x


class GPT(nn.Module):
    """From tokens (B, T) to logits (B, T, V)."""

    def __init__(self, vocab_size: int, sequence: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocab_size, WIDTH), nn.Embedding(sequence, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.embed.weight
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.size(1)]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def rate(done: float) -> float:
    """Return the factor of the learning rate at a used share of the budget: warm-up, then a cosine."""
    if done < WARM_UP:
        return (done + 0.001) / WARM_UP
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def main() -> None:
    """Train until the budget is used, evaluate, and print the result."""
    seed, peak = int(os.environ.get("AUTORESEARCH_SEED", "1337")), float(os.environ.get("PLAIN_LR", "3e-3"))
    torch.manual_seed(seed)
    data = load()
    model = GPT(data.vocab_size, data.sequence)
    optimizer = torch.optim.AdamW(model.parameters(), peak, (0.9, 0.95), weight_decay=0.1)
    batches, clock = data.batches(ROWS, seed, torch.device("cpu")), Clock()
    while not clock.over:
        batch = next(batches)
        loss = F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = peak * rate(clock.fraction)
        optimizer.step()
        clock.tick()
    print(f"---\nval_bpb: {evaluate(model.eval(), data, clock):.6f}\nnum_steps: {clock.steps}")


if __name__ == "__main__":
    main()
