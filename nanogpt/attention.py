"""Causal attention with the fastest kernel that the device has. It has no hyperparameters.

Agents may read this file but never change it. Shapes: B rows, T tokens, H heads, d width of a head.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FLASH = {"fa4": "FA4", "fa3": "FA3"}
"""Kernels from other packages that PyTorch can use in place of its own, and its names for them."""
PACKAGES = ("torch", "flash-attn-4", "flash-attn-3", "flash-attn", "nvidia-cutlass-dsl")
"""Packages whose versions decide what works."""
CLOSE = 0.03
"""Relative error of bf16 attention that is accepted; 0.005 is usual."""

_varlen: Any = None
"""PyTorch's `varlen_attn`. `backend` imports it, because an import inside `attention` would break the graph
that torch.compile makes of the model."""


def backend(device: torch.device) -> str:
    """Choose the fastest attention that works on this device, load it, and return its name.

    fa4     FlashAttention 4, package `flash-attn-4`: GPUs of compute capability 9 and 10
    fa3     FlashAttention 3 (Shah et al. 2024), module `flash_attn_interface`: capability 9
    varlen  PyTorch's `varlen_attn`, which skips what lies outside a window: other GPUs from Ampere on
    sdpa    PyTorch's `scaled_dot_product_attention`: every other device

    Each is tried once, forward and backward, against attention in fp32: a package may fail to import, lack
    the backward pass, or be built for another version. What was chosen and why is printed, and noted for the
    next process on this machine.
    """
    if device.type != "cuda":
        return "sdpa"
    major, _ = torch.cuda.get_device_capability(device)
    names = ["fa4"] * (major in (9, 10)) + ["fa3"] * (major == 9) + ["varlen"] * (major >= 8)
    key = " ".join([torch.cuda.get_device_name(device), *map(_version, PACKAGES)])
    with contextlib.suppress(Exception):  # what was noted may be damaged, or not work any more
        known = json.loads(_notes().read_text())[key]
        if known in names:
            _load(known)
            return str(known)
    reasons, chosen = [], "sdpa"
    for name in names:
        if problem := _problem(name, device):
            reasons.append(f"; not {name}: {problem}")
        else:
            chosen = name
            break
    print(f"attention: {chosen}{''.join(reasons)}", flush=True)
    with contextlib.suppress(OSError):
        _notes().parent.mkdir(parents=True, exist_ok=True)
        _notes().write_text(json.dumps({key: chosen}))
    return chosen


def _version(package: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return f"{package}={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return ""


def _notes() -> Path:
    """Where the choice is noted: beside what compilers keep, which belongs to this machine and code."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or Path.home() / ".cache" / "autoresearch-tui"
    return Path(folder) / "attention.json"


def _load(name: str) -> None:
    """Make PyTorch use this kernel. Raises whatever a package raises."""
    global _varlen
    _varlen = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    if name in FLASH:
        # FlashAttention 4 compiles its kernels when they are first used, and can keep them.
        os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "1")
        os.environ.setdefault("FLASH_ATTENTION_CUTE_DSL_CACHE_DIR", str(_notes().parent / "flash-attention"))
        torch.nn.attention.activate_flash_attention_impl(FLASH[name])


def _problem(name: str, device: torch.device) -> str:
    """Try a kernel, and return why it cannot be used; empty if it can."""
    try:
        _load(name)
        error = error_of(name, device)
        problem = "" if error < CLOSE else f"it is wrong by {error:.1%}"
    except Exception as failure:  # packages, compilers and drivers raise their own
        problem = " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
    if problem and name in FLASH:
        with contextlib.suppress(Exception):  # it may not have got as far as that
            torch.nn.attention.restore_flash_attention_impl()
    return problem


def error_of(name: str, device: torch.device) -> float:
    """Return the largest relative error of a kernel's results and gradients, with a window and without."""
    T = 256
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(4, 2, T, 2, 128, generator=generator).to(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    worst = 0.0
    for window in (T // 4, T):
        q, k, v = (x.to(dtype).requires_grad_() for x in given[:3])
        y = attention(q, k, v, window, name)
        found = [y, *torch.autograd.grad(y, (q, k, v), given[3].to(dtype))]
        q, k, v = (x.clone().requires_grad_() for x in given[:3])
        y = _plain(q, k, v, window)
        expected = [y, *torch.autograd.grad(y, (q, k, v), given[3])]
        for a, b in zip(found, expected, strict=True):
            worst = max(worst, float(((a.float() - b).norm() / b.norm()).detach()))
    return worst


def _plain(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attention as it is defined, for comparison."""
    T = q.size(1)
    may = torch.ones(T, T, dtype=torch.bool, device=q.device).tril().triu(-window)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.size(-1) ** 0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(~may, -torch.inf).softmax(-1), v)


def attention(q: Tensor, k: Tensor, v: Tensor, window: int, backend: str) -> Tensor:
    """Attend from each token to itself and to the `window` tokens before it.

    q, k, v and the result are (B, T, H, d); `backend` is a name that `backend()` returned.
    """
    B, T, H, d = q.shape
    if backend in FLASH or (backend == "varlen" and window < T):
        # varlen_attn takes sequences one after the other: here B of them, each T tokens long.
        ends = torch.arange(0, (B + 1) * T, T, dtype=torch.int32, device=q.device)  # (B + 1,)
        q, k, v = (x.reshape(B * T, H, d) for x in (q, k, v))
        flat: Tensor = _varlen(q, k, v, ends, ends, T, T, window_size=(window, 0))  # (B * T, H, d)
        return flat.view(B, T, H, d)
    mask = None
    if window < T:
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril().triu(-window)  # True: may attend
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # each (B, H, T, d)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return y.transpose(1, 2)
