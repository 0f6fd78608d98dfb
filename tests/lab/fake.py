"""Makes torch believe in a GPU that is not there: tensors on it have shapes and no content.

It needs torch's CUDA wheel, for Triton and ptxas, but no driver. What is patched are questions that torch,
Inductor and Triton ask of the device.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")

import torch
import torch._dynamo.device_interface
import torch._inductor.compile_fx
import torch._inductor.config
import torch._inductor.lowering
import torch._inductor.runtime.triton_helpers
import torch._inductor.scheduler
import torch.cuda.amp.common
import torch.utils._triton
import triton
from torch._inductor.runtime.hints import DeviceProperties
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from tests.lab.cards import Card


def pretend(card: Card) -> None:
    """Answer every question about the device as this card would."""
    torch._C._ensureCUDADeviceGuardSet()
    major, minor = divmod(card.capability, 10)
    properties = SimpleNamespace(
        name=card.name, total_memory=card.memory, major=major, minor=minor, gcnArchName="",
        multi_processor_count=card.processors, warp_size=32, max_threads_per_multi_processor=2048,
        max_threads_per_block=1024, regs_per_multiprocessor=65536, L2_cache_size=50 * 2**20,
        shared_memory_per_block=49152, shared_memory_per_block_optin=card.shared,
        shared_memory_per_multiprocessor=card.shared + 1024,
    )  # fmt: skip
    answers: dict[str, Any] = {
        "get_device_capability": lambda device=None: (major, minor),
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: card.name,
        "get_arch_list": lambda: ["sm_80", "sm_89", "sm_90"],
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda *a, **k: True,
        "mem_get_info": lambda device=None: (card.memory - 500 * 2**20, card.memory),
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    _pretend_to_inductor(card, properties)
    _pretend_to_triton(card)


def _pretend_to_inductor(card: Card, properties: SimpleNamespace) -> None:
    known = {
        "type": "cuda", "index": 0, "multi_processor_count": card.processors, "cc": card.capability,
        "major": properties.major, "regs_per_multiprocessor": 65536, "warp_size": 32,
        "max_threads_per_multi_processor": 2048, "max_threads_per_block": 1024,
    }  # fmt: skip
    made = DeviceProperties(**{n: v for n, v in known.items() if n in DeviceProperties._fields})
    DeviceProperties.create = classmethod(lambda cls, device: made)  # type: ignore[method-assign,assignment]
    interface: Any = torch._dynamo.device_interface.CudaInterface
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "get_compute_capability": lambda device=None: card.capability,
        "current_device": lambda: 0,
        "get_raw_stream": lambda device: 0,
        "device_count": lambda: 1,
        "synchronize": lambda device=None: None,
        "is_triton_capable": lambda device=None: True,
        "raise_if_triton_unavailable": lambda device=None: None,
        "device": lambda *_: contextlib.nullcontext(),
    }
    for name, answer in answers.items():
        setattr(interface, name, staticmethod(answer))
    interface.Worker.get_device_properties = staticmethod(lambda device=None: properties)
    interface.Worker.current_device = staticmethod(lambda: 0)
    for name, module in list(sys.modules.items()):
        of_torch = name.startswith("torch._inductor") or name == "torch.utils._triton"
        if of_torch and hasattr(module, "has_triton"):
            setattr(module, "has_triton", lambda *_: True)  # noqa: B010
    torch._inductor.runtime.triton_helpers.set_driver_to_gpu = lambda: None
    torch._inductor.config.triton.autotune_at_compile_time = False


def _pretend_to_triton(card: Card) -> None:
    driver._active = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", card.capability, 32),
        get_active_torch_device=lambda: torch.device("cuda:0"),
        get_device_interface=lambda: torch.cuda,
        get_current_device=lambda: 0,
        get_current_stream=lambda device=None: 0,
        get_benchmarker=lambda: lambda *a, **k: 0,
    )
    assert triton.runtime.driver.active is not None


def load_trainer(folder: Path) -> ModuleType:
    """Import train.py of this folder as it would be imported beside that card."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("train", folder / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module
    real = torch.cuda.is_available
    torch.cuda.is_available = lambda: True
    try:
        spec.loader.exec_module(module)
    finally:
        torch.cuda.is_available = real
    return module
