"""attention.py: what each kernel is asked for is attention to a token itself and to a window before it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
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


@pytest.mark.parametrize("name", ["fa3", "fa4"])
def test_flash_attention_takes_all_blocks_the_same_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_varlen", varlen_on_cpu)
    q, k, v = random_qkv()
    for window in (5, T):
        assert torch.allclose(attention(q, k, v, window, name), by_hand(q, k, v, window), atol=1e-5)


class Hopper:
    """A machine whose GPU and packages a test makes up; kernels run on the CPU."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, capability: tuple[int, int]) -> None:
        self.loaded: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.kernel: Callable[..., Tensor] = sdpa_by_rows
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        patch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
        patch.setattr(module, "_load", self.load)
        exact = module.error_of
        patch.setattr(module, "error_of", lambda name, device: exact(name, torch.device("cpu")))
        self.patch = patch

    def load(self, name: str) -> None:
        self.loaded.append(name)
        if name in self.broken:
            raise self.broken[name]
        self.patch.setattr(module, "_varlen", self.kernel)


def sdpa_by_rows(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, _: Tensor, longest: int, *rest: Any, **named: Any
) -> Tensor:
    q, k, v = (x.view(-1, longest, *x.shape[1:]) for x in (q, k, v))
    return attention(q, k, v, named["window_size"][0], "sdpa").flatten(0, 1)


def forward_only(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Tensor:
    return sdpa_by_rows(q, k, v, *rest, **named).detach()


def without_window(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Tensor:
    return sdpa_by_rows(q, k, v, *rest, **named | {"window_size": (10**6, 0)})


GPU = torch.device("cuda")


def test_the_first_kernel_that_works_is_taken_and_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Hopper(monkeypatch, tmp_path / "new", (9, 0))
    machine.broken = {
        "fa4": ImportError("No module named 'flash_attn'"),
        "fa3": OSError("undefined symbol: x"),
    }
    assert backend(GPU) == "varlen"
    said = capsys.readouterr().out
    assert said == (
        "attention: varlen; not fa4: ImportError: No module named 'flash_attn'"
        "; not fa3: OSError: undefined symbol: x\n"
    )
    assert machine.loaded == ["fa4", "fa3", "varlen"]
    assert backend(GPU) == "varlen"  # from the note: nothing else is tried again
    assert machine.loaded[3:] == ["varlen"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kernel", "reason"), [(forward_only, "does not require grad"), (without_window, "wrong by")]
)
def test_a_kernel_without_gradients_or_windows_is_not_taken(
    kernel: Callable[..., Tensor], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    machine = Hopper(monkeypatch, tmp_path, (8, 0))
    machine.kernel = kernel
    assert backend(GPU) == "sdpa"
    said = capsys.readouterr().out
    assert said.startswith("attention: sdpa; not varlen: ")
    assert reason in said


@pytest.mark.parametrize(
    ("capability", "name"),
    [((7, 5), "sdpa"), ((8, 9), "varlen"), ((9, 0), "fa4"), ((10, 0), "fa4"), ((12, 0), "varlen")],
)
def test_each_gpu_tries_the_kernels_that_exist_for_it(
    capability: tuple[int, int], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hopper(monkeypatch, tmp_path, capability)
    assert backend(GPU) == name


def test_a_damaged_note_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hopper(monkeypatch, tmp_path, (9, 0))
    (tmp_path / "attention.json").write_text("{")
    assert backend(GPU) == "fa4"
    assert "fa4" in (tmp_path / "attention.json").read_text()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("window", [5, T])
def test_the_kernel_of_a_gpu_agrees_with_the_textbook(window: int) -> None:
    device = torch.device("cuda")
    q, k, v = (x.to(device, torch.bfloat16) for x in torch.randn(3, B, T, H, 64).unbind(0))
    found = attention(q, k, v, window, backend(device))
    assert torch.allclose(found.float(), by_hand(q.float(), k.float(), v.float(), window), atol=3e-2)
