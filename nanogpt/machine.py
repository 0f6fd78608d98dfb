"""The peak speed of the device in FLOP/s.

MFU (model FLOPs utilisation) is the share of it that training reaches. Agents may read this file but never
change it.
"""

from __future__ import annotations

import re
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
"""Peak of dense bf16 matrix products in TFLOP/s, from the makers' data sheets, by a part of the GPU's name.

The first entry that fits counts. For a GPU that is not listed no MFU is shown, because a guess would mislead.
"""


def peak_flops(device: torch.device) -> float | None:
    """Return the peak speed of a GPU in FLOP/s, or None where it is not known."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """Return the peak speed in FLOP/s of the GPU with this name, or None where it is not known."""
    # Whole words: an A10G is no A10, and an L40 is no L4.
    return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if re.search(rf"\b{part}\b", name)), None)


def cpu_flops(dtype: torch.dtype) -> float:
    """Measure the speed of matrix products on this CPU in FLOP/s; takes some hundredths of a second."""
    x = torch.randn(512, 512, dtype=dtype, device="cpu")
    x @ x
    started = time.perf_counter()
    for _ in range(10):
        x @ x
    return 10 * 2 * 512**3 / (time.perf_counter() - started)  # a product of n x n matrices takes 2 n^3 FLOPs
