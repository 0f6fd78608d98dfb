"""From a Python function to machine code for a GPU that is not there: trace, split, lower, assemble.

The forward pass is traced with tensors that have a shape on the pretended card and no content, AOT autograd
splits forward from backward, Inductor lowers both to Triton kernels, and ptxas assembles each of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch._inductor.config
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._functorch.aot_autograd import aot_function
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.codecache import PyCodeCache
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.dependencies import MemoryDep
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.scheduler import FusedSchedulerNode
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tests.lab import slices
from tests.lab.cards import Card

KERNEL = re.compile(r"(\w+) = async_compile\.triton\('(\w+)', '''(.*?)''', device_str='cuda'\)", re.DOTALL)


class Lowered(NamedTuple):
    """One pass: its code, and the bytes that its kernels read and write."""

    source: str
    triton_bytes: float
    all_bytes: float


class Passes(NamedTuple):
    """Forward and backward pass of the loss of some rows."""

    forward: Lowered
    backward: Lowered
    saved: float
    """Bytes that the forward pass keeps for the backward pass."""


class Given(NamedTuple):
    """A tensor that the loss takes besides tokens and targets."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    learned: bool
    """Whether the backward pass gives its gradient."""


def passes(
    make: Callable[[], nn.Module],
    call: Callable[..., Tensor],
    given: list[Given],
    rows: int,
    sequence: int,
) -> Passes:
    """Compile `call(model, tokens, targets, *given)` for `rows` rows, forward and backward."""
    traced, tensors = _trace(make, call, given, rows, sequence)
    split = _split(traced, tensors, rows, sequence)
    saved = _saved(split["forward"])
    forward, backward = (_lower(split[name], name) for name in ("forward", "backward"))
    return Passes(forward, backward, saved)


def step(function: Callable[..., Any], given: list[Given]) -> Lowered:
    """Compile a function that has no gradients, such as a part of the optimizer."""
    found: dict[str, Any] = {}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        tensors = [torch.empty(one.shape, dtype=one.dtype) for one in given]
        aot_function(function, _keep(found, "step"), decompositions=select_decomp_table())(*tensors)
    return _lower(found["step"], "step")


def _trace(
    make: Callable[[], nn.Module],
    call: Callable[..., Tensor],
    given: list[Given],
    rows: int,
    sequence: int,
) -> tuple[Any, list[Given]]:
    """The graph of the loss, and all tensors that it takes after the tokens: the model's, and `given`."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            model = make()
            more = [torch.empty(one.shape, dtype=one.dtype) for one in given]
        tokens = torch.zeros(rows, sequence, dtype=torch.int64, device="cuda")
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        names = list(state)

        class Loss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, x: Tensor, y: Tensor, *more: Tensor) -> Tensor:
                return call(self.model, x, y, *more)

        loss = Loss()

        def flat(x: Tensor, y: Tensor, *tensors: Tensor) -> Any:
            named = {f"model.{name}": t for name, t in zip(names, tensors[: len(names)], strict=True)}
            return torch.func.functional_call(loss, named, (x, y, *tensors[len(names) :]))

        with torch.no_grad():
            graph = make_fx(flat)(tokens, tokens.clone(), *state.values(), *more)
        own = [Given(tuple(t.shape), t.dtype, isinstance(t, nn.Parameter)) for t in state.values()]
    _move(graph, torch.device("cpu"))  # AOT autograd's backward aborts on a pretended GPU
    for node in graph.graph.nodes:
        node.meta.pop("val", None)
        node.meta.pop("tensor_meta", None)
    return graph, own + given


def _move(graph: Any, device: torch.device) -> None:
    """Let a graph create its tensors on this device."""
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": device}
        if node.op == "call_function" and any(isinstance(a, torch.device) for a in node.args):
            node.args = tuple(device if isinstance(a, torch.device) else a for a in node.args)
    graph.recompile()


def _keep(found: dict[str, Any], name: str) -> Any:
    """A compiler that only notes the graph that it is given."""

    def compiler(graph: Any, _: Any) -> Any:
        found[name] = graph
        return make_boxed_func(graph.forward)

    return compiler


def _split(graph: Any, tensors: list[Given], rows: int, sequence: int) -> dict[str, Any]:
    """The graphs of the forward and the backward pass, as Inductor gets them."""
    found: dict[str, Any] = {}

    def partition(whole: Any, inputs: Any, **more: Any) -> Any:
        joint_graph_passes(whole)
        return min_cut_rematerialization_partition(whole, inputs, compiler="inductor", **more)

    with FakeTensorMode(allow_non_fake_inputs=True):
        empty = [(torch.empty(one.shape, dtype=one.dtype), one.learned) for one in tensors]
        inputs = [nn.Parameter(tensor) if learned else tensor for tensor, learned in empty]
        tokens = torch.zeros(rows, sequence, dtype=torch.int64)
        compiled = aot_function(
            lambda *inputs: graph(*inputs), _keep(found, "forward"), _keep(found, "backward"),
            partition_fn=partition, decompositions=select_decomp_table(),
        )  # fmt: skip
        compiled(tokens, tokens.clone(), *inputs).backward()
    return found


def _saved(forward: Any) -> float:
    """Bytes of what a forward graph computes and the backward graph needs."""
    outputs = next(node for node in reversed(forward.graph.nodes) if node.op == "output").args[0][1:]
    kept = {o for o in outputs if isinstance(o, torch.fx.Node) and o.op != "placeholder"}
    tensors = [o.meta["val"] for o in kept if isinstance(o.meta.get("val"), Tensor)]
    return float(sum(t.numel() * t.element_size() for t in tensors))


def _lower(graph: Any, name: str) -> Lowered:
    """Inductor's code for a graph, on the pretended card."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, torch._inductor.config.patch(fx_graph_cache=False):
        for node in graph.graph.nodes:
            if "val" in node.meta:
                node.meta["val"] = _on_card(node.meta["val"])
        _move(graph, torch.device("cuda:0"))
        inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
        with V.set_fake_mode(mode):
            post_grad_passes(graph, is_inference=name == "step")
            lowering = GraphLowering(
                graph, example_inputs=inputs, shape_env=None, is_inference=name == "step",
                is_backward=name == "backward", name=name,
            )  # fmt: skip
            with V.set_graph_handler(lowering), V.set_debug_handler(DebugContext()):
                lowering.run(*inputs)
                lowering._update_scheduler()
                total, counts, _ = lowering.count_bytes()
                own = sum(4 * words - _not_read(node) for node, words in counts if _is_ours(node))
                code: Any = lowering.codegen()[0]
    return Lowered(getattr(code, "value", code), own, total)


def _is_ours(node: Any) -> bool:
    """Whether Inductor writes the kernel itself, not a library of products or attention."""
    nodes = node.get_nodes() if hasattr(node, "get_nodes") else [node]
    return not any("Extern" in type(n).__name__ or "Nop" in type(n).__name__ for n in nodes)


def _not_read(node: Any) -> float:
    """Bytes that Inductor counts for a kernel of several parts, and that are outside of what it reads."""
    if not isinstance(node, FusedSchedulerNode):
        return 0.0
    reads, over = node.read_writes.reads, 0.0
    for name in {dep.name for dep in reads} - {dep.name for dep in node.read_writes.writes}:
        buffer = V.graph.try_get_buffer(name)
        deps = [dep for dep in reads if dep.name == name]
        places = [dep for dep in deps if isinstance(dep, MemoryDep) and not dep.is_indirect()]
        if buffer is not None and len(places) == len(deps):
            size = math.prod(int(n) for n in buffer.get_size())
            read = slices.elements([(dep.index, dep.ranges) for dep in places], size)
            over += (size - read) * buffer.get_dtype().itemsize
    return over


def _on_card(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="cuda")
    return type(value)(map(_on_card, value)) if isinstance(value, tuple | list) else value


def assemble(source: str, card: Card) -> tuple[int, list[str]]:
    """Let ptxas assemble each Triton kernel in some code; returns how many there are, and what it refuses."""
    refused, kernels = list[str](), KERNEL.findall(source)
    properties: Any = DeviceProperties.create(torch.device("cuda"))
    for _, name, code in kernels:
        kernel = getattr(PyCodeCache.load(code), name)
        kernel.triton_meta["device"] = properties._replace(cc=card.capability, major=card.capability // 10)
        try:
            kernel.precompile(warm_cache_only=True)
        except Exception as error:  # whatever Triton or ptxas raises
            refused.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    return len(kernels), refused
