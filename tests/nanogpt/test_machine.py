"""machine.py: the peak speed of a GPU comes from its name, that of a CPU is measured."""

from __future__ import annotations

import pytest
import torch
from machine import cpu_flops, peak_flops, peak_of


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA B200", 2250),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_a_known_gpu_has_the_peak_of_its_data_sheet(name: str, tflops: int) -> None:
    assert peak_of(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A10G", "NVIDIA L40", "NVIDIA GB200", "Tesla T4", ""])
def test_a_gpu_that_only_has_a_similar_name_has_no_known_peak(name: str) -> None:
    assert peak_of(name) is None


def test_only_a_gpu_has_a_peak() -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert peak_flops(torch.device("mps")) is None


def test_the_measured_speed_of_this_cpu_is_one_that_a_cpu_can_have() -> None:
    assert 1e8 < cpu_flops(torch.float32) < 1e14
