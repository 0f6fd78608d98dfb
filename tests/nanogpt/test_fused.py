"""fused.py: its loss and gradients are those that autograd computes from the whole logits."""

from __future__ import annotations

import math

import pytest
import torch
from fused import HeadLoss
from torch import Tensor

V, D = 11, 6


def test_the_fused_loss_and_its_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    N = 1100
    x, head = torch.randn(N, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    bigrams, rows = torch.randn(2 * V, V).half(), torch.randint(0, 2 * V, (N,))
    key = torch.randperm(N * V)[:700].sort().values
    extra, targets = torch.randn(700, requires_grad=True), torch.randint(0, V, (N,))
    logits = (bigrams[rows].float() + x @ head.T).flatten().index_add(0, key, extra).view(N, V)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    expected = torch.autograd.grad(loss, (x, head, extra))
    fused = HeadLoss.apply(x, head, bigrams, rows, key, extra, targets, torch.float32)  # type: ignore[no-untyped-call]
    assert math.isclose(float(fused.detach()), float(loss.detach()), rel_tol=1e-5)
    for got, wanted in zip(torch.autograd.grad(fused, (x, head, extra)), expected, strict=True):
        assert torch.allclose(got, wanted, atol=1e-6)


def test_low_precision_changes_the_loss_only_a_little() -> None:
    torch.manual_seed(1)
    N = HeadLoss.PIECE + 1  # the last piece has one position
    x, head = torch.randn(N, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    none, bigrams = torch.empty(0, requires_grad=True), torch.zeros(1, V)
    rows, targets = torch.zeros(N, dtype=torch.long), torch.randint(0, V, (N,))
    key = torch.empty(0, dtype=torch.long)
    expected = torch.nn.functional.cross_entropy(x @ head.T, targets)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        loss: Tensor = HeadLoss.apply(x, head, bigrams, rows, key, none, targets, dtype)  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=tolerance)


def test_the_gradient_is_scaled_by_what_comes_after_the_loss() -> None:
    torch.manual_seed(2)
    x, head = torch.randn(4, D, requires_grad=True), torch.randn(V, D)
    fixed = (
        head, torch.zeros(1, V), torch.zeros(4, dtype=torch.long), torch.empty(0, dtype=torch.long),
        torch.empty(0), torch.tensor([1, 2, 3, 4]), torch.float32,
    )  # fmt: skip
    (once,) = torch.autograd.grad(HeadLoss.apply(x, *fixed), x)  # type: ignore[no-untyped-call]
    (thrice,) = torch.autograd.grad(3 * HeadLoss.apply(x, *fixed), x)  # type: ignore[no-untyped-call]
    assert torch.allclose(thrice, 3 * once)
