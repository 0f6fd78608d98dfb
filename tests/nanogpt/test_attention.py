"""attention.py: what each kernel is asked for is attention to a token itself and to a window before it."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import attention as module
import pytest
import torch
from attention import attention, backend
from torch import Tensor

B, T, H, D = 2, 12, 3, 8


def random_qkv() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, B, T, H, D, generator=generator).unbind(0)
    return q, k, v


def by_hand(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """The textbook's sum, one position at a time."""
    y = torch.empty_like(q)
    for position in range(q.size(1)):
        start = max(0, position - window)
        keys, values = k[:, start : position + 1], v[:, start : position + 1]
        scores = torch.einsum("bhd,bthd->bht", q[:, position], keys) / q.size(-1) ** 0.5
        y[:, position] = torch.einsum("bht,bthd->bhd", scores.softmax(-1), values)
    return y


@pytest.mark.parametrize("window", [0, 1, 5, T - 1, T, 100])
def test_a_token_attends_to_itself_and_to_a_window_before_it(window: int) -> None:
    q, k, v = random_qkv()
    assert torch.allclose(attention(q, k, v, window, "sdpa"), by_hand(q, k, v, window), atol=1e-5)


def test_gradients_are_those_of_the_textbook() -> None:
    q, k, v = (x.requires_grad_() for x in random_qkv())
    found = torch.autograd.grad(attention(q, k, v, 4, "sdpa").square().sum(), (q, k, v))
    expected = torch.autograd.grad(by_hand(q, k, v, 4).square().sum(), (q, k, v))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_device_without_a_kernel_of_its_own_gets_sdpa() -> None:
    assert backend(torch.device("cpu")) == "sdpa"
    assert backend(torch.device("mps")) == "sdpa"


def varlen_on_cpu(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Tensor:
    """What varlen_attn documents: causal attention within each of the sequences that `cu_seq` separates."""
    from torch.nn.attention.varlen import varlen_attn

    given = inspect.signature(varlen_attn).bind(q, k, v, *rest, **named).arguments  # it would take this call
    ends, longest, (before, after) = given["cu_seq_q"].tolist(), given["max_q"], given["window_size"]
    assert after == 0, "a window after the token would show what comes next"
    assert torch.equal(given["cu_seq_k"], given["cu_seq_q"])
    assert given["cu_seq_q"].dtype == torch.int32
    parts = []
    for start, end in itertools.pairwise(ends):
        assert end - start <= longest
        parts.append(by_hand(q[None, start:end], k[None, start:end], v[None, start:end], before)[0])
    return torch.cat(parts)


@pytest.mark.parametrize("window", [1, 5, T])
def test_varlen_gets_the_rows_one_after_the_other(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_varlen", varlen_on_cpu)
    q, k, v = random_qkv()
    assert torch.allclose(attention(q, k, v, window, "varlen"), by_hand(q, k, v, window), atol=1e-5)


@pytest.mark.parametrize("with_sums", [False, True])
def test_flash_attention_may_also_return_sums(with_sums: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window_size: tuple[int, int]) -> Any:
        assert causal
        assert window_size[1] == 0
        y = by_hand(q, k, v, window_size[0])
        return (y, y.sum(-1)) if with_sums else y

    monkeypatch.setattr(module, "_flash", flash)
    q, k, v = random_qkv()
    assert torch.equal(attention(q, k, v, 5, "fa3"), by_hand(q, k, v, 5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", [5, T])
def test_the_kernel_of_a_gpu_agrees_with_the_textbook(window: int) -> None:
    device = torch.device("cuda")
    q, k, v = (x.to(device, torch.bfloat16) for x in torch.randn(3, B, T, H, 64).unbind(0))
    found = attention(q, k, v, window, backend(device))
    assert torch.allclose(found.float(), by_hand(q.float(), k.float(), v.float(), window), atol=3e-2)
