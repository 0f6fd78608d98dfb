"""GPUs that the lab pretends to be, and how fast a step on them is modelled to be."""

from __future__ import annotations

from typing import NamedTuple


class Card(NamedTuple):
    """A GPU: what torch says of it, and its data sheet."""

    title: str
    name: str
    capability: int
    """Compute capability, times 10."""
    memory: int
    """Bytes that torch reports in all."""
    processors: int
    shared: int
    """Bytes of shared memory a block may take."""
    peak: float
    """Dense bf16 products, FLOP/s."""
    bandwidth: float
    """Bytes a second of its memory."""


GIB = 2**30
CARDS = {
    card.title: card
    for card in (
        Card("H100-80", "NVIDIA H100 80GB HBM3", 90, 84_941_340_672, 132, 232_448, 989e12, 3.35e12),
        Card("A100-80", "NVIDIA A100-SXM4-80GB", 80, 85_050_000_000, 108, 166_912, 312e12, 2.04e12),
        Card("A100-40", "NVIDIA A100-SXM4-40GB", 80, 42_300_000_000, 108, 166_912, 312e12, 1.56e12),
        Card("RTX 4090", "NVIDIA GeForce RTX 4090", 89, 25_250_000_000, 128, 101_376, 165e12, 1.01e12),
        Card("L4", "NVIDIA L4", 89, 23_600_000_000, 58, 101_376, 121e12, 0.30e12),
    )
}

PRODUCTS, TRAFFIC, ATTENTION = 0.627, 0.866, 0.337
"""Shares of the peak that matrix products reach, of the bandwidth that other kernels reach, and of the peak
that attention reaches. They are chosen so that the one step of karpathy/autoresearch that was logged on an
H100 (318 ms) comes out, and are used for every card: a model, not a measurement."""
PASS_S, STEP_S = 0.0005, 0.002
"""Seconds of gaps between kernels in each pass and in each step."""


class Work(NamedTuple):
    """What one step does, summed over its passes."""

    passes: int
    product_flops: float
    attention_flops: float
    kernel_bytes: float
    optimizer_bytes: float


def seconds(card: Card, work: Work) -> float:
    """How long a step is modelled to take: a roofline of its parts, one after the other."""
    return (
        work.product_flops / (PRODUCTS * card.peak)
        + work.attention_flops / (ATTENTION * card.peak)
        + (work.kernel_bytes + work.optimizer_bytes) / (TRAFFIC * card.bandwidth)
        + work.passes * PASS_S
        + STEP_S
    )
