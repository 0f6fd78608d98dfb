"""Causal attention by the fastest means there is: plumbing, nothing to tune."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_flash: Any = None
_varlen: Any = None
"""Set by `backend`: an import inside the compiled model would break its graph."""


def backend(device: torch.device) -> str:
    """The fastest there is here: FlashAttention 3 (Hopper, if installed), varlen_attn, or SDPA."""
    global _flash, _varlen
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) == (9, 0) and importlib.util.find_spec("flash_attn_interface"):
            _flash = importlib.import_module("flash_attn_interface").flash_attn_func
            return "fa3"
        if major >= 8:
            _varlen = importlib.import_module("torch.nn.attention.varlen").varlen_attn
            return "varlen"
    return "sdpa"


def attention(q: Tensor, k: Tensor, v: Tensor, window: int, backend: str) -> Tensor:
    """Causal attention over the last `window` tokens; all of (B, T, H, d)."""
    B, T, H, d = q.shape
    if backend == "fa3":
        both = _flash(q, k, v, causal=True, window_size=(window, 0))
        y: Tensor = both[0] if isinstance(both, tuple) else both  # some releases return the log-sum-exp too
        return y
    if backend == "varlen" and window < T:
        ends = torch.arange(0, (B + 1) * T, T, dtype=torch.int32, device=q.device)
        q, k, v = (x.reshape(B * T, H, d) for x in (q, k, v))
        flat: Tensor = _varlen(q, k, v, ends, ends, T, T, window_size=(window, 0))
        return flat.view(B, T, H, d)
    mask = None
    if window < T:
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril().triu(-window)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
    return y.transpose(1, 2)
