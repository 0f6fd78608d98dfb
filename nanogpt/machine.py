"""How fast the device is at best: what MFU is a share of."""

from __future__ import annotations

import time

import torch

PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 5090": 210,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bf16, as the makers state it; another device has no MFU rather than an invented one."""


def peak_flops(device: torch.device) -> float | None:
    """What a GPU can do at best, in FLOP/s, where that is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if part in name), None)


def cpu_flops(dtype: torch.dtype) -> float:
    """FLOP/s of matrix products on this CPU, measured in some hundredths of a second."""
    x = torch.randn(512, 512, dtype=dtype, device="cpu")
    x @ x
    started = time.perf_counter()
    for _ in range(10):
        x @ x
    return 10 * 2 * 512**3 / (time.perf_counter() - started)
