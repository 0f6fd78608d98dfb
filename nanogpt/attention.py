"""Causal attention with the fastest kernel that the device has. It has no hyperparameters.

Agents may read this file but never change it. Shapes: B rows, T tokens, H heads, d width of a head.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_flash: Any = None
_varlen: Any = None
"""The attention functions for GPUs. `backend` imports them, because an import inside `attention` would break
the graph that torch.compile makes of the model."""


def backend(device: torch.device) -> str:
    """Choose the fastest attention for this device, load it, and return its name.

    fa3     FlashAttention 3 (Shah et al. 2024): Hopper GPUs with the package `flash_attn_interface`
    varlen  PyTorch's `varlen_attn`, which skips what lies outside a window: other GPUs from Ampere on
    sdpa    PyTorch's `scaled_dot_product_attention`: every other device
    """
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
    """Attend from each token to itself and to the `window` tokens before it.

    q, k, v and the result are (B, T, H, d); `backend` is a name that `backend()` returned.
    """
    B, T, H, d = q.shape
    if backend == "fa3":
        both = _flash(q, k, v, causal=True, window_size=(window, 0))
        y: Tensor = both[0] if isinstance(both, tuple) else both  # some releases return the log-sum-exp too
        return y
    if backend == "varlen" and window < T:
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
