"""The one file agents edit: a small GPT, its optimizer, and 300 seconds to train it.

    python nanogpt/train.py                              train, for AUTORESEARCH_BUDGET_S seconds
    python nanogpt/train.py --describe [--profile h100]  sizes, FLOPs and memory, without training

Read it top to bottom: hyperparameters, model, counted memory, optimizer, training. Data, clock and
evaluation are in prepare.py beside it and stay as they are. Shapes in comments: B rows, T tokens, N = B * T,
D width, H heads, V tokens of vocabulary. Each technique carries its source, and its worth where it was
measured; docs/benchmarks.md has the table.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from typing import Any, cast

# Which copies: those beside this file, as Python puts a script's folder first on its path.
from attention import attention, backend
from counts import Counts, Found, folds
from fused import HeadLoss
from machine import cpu_flops, peak_flops

from prepare import SLACK_STEPS, BadData, Batch, Cheating, Clock, Data, evaluate, load

print("phase: starting", flush=True)
STARTED = time.time()

import numpy as np  # noqa: E402 - the line above comes first, so that a screen shows life within milliseconds
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

DEVICE = torch.device(
    "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
)
# `--profile h100` on another machine: for --describe and tests.
LARGE = DEVICE.type == "cuda" or "h100" in sys.argv or os.environ.get("AUTORESEARCH_PROFILE") == "h100"

# --- hyperparameters: cpu ---
DEPTH = 2  # transformer blocks [1, 8]
WIDTH = 128  # residual width D, a multiple of HEAD_DIM [64, 512]
HEAD_DIM = 32  # width of one attention head [16, 64]
MLP_RATIO = 4  # hidden width of the MLP over D [2, 8]
WINDOWS = "L"  # attention of each block in turn, the last is always L: L all tokens, S the last few
WINDOW_SHARE = 1.0  # of the context that an S block sees [0.1, 1.0]
ROPE_BASE = 10000.0  # longest rotary wavelength [1000.0, 300000.0]
QK_SCALE = 1.2  # sharpens attention after QK-norm [0.8, 2.0]
SOFTCAP = 0.0  # logits stay within +- this; 0 off: it costs 0.04 here, mostly speed [0.0, 60.0]
VALUE_EVERY = 0  # value embeddings in every such block; 0 none [0, 4]
NGRAM_TABLES = 0  # hashed n-gram embeddings, bigram first; counts do their work here [0, 2]
NGRAM_ROWS = 65536  # rows of each [16384, 524288]
COUNT_ORDER = 5  # longest n-gram that is counted; 0 counts none [0, 5]
COUNT_FOLDS = 8  # a share of 1 / this is not counted but trained on, in turn [3, 8]
COUNT_DISCOUNT = 0.75  # taken off every count, for what was never seen [0.3, 0.95]
COPY_LENGTH = 12  # longest match within the row that is told apart; 0 copies nothing [0, 24]
ROWS = 8  # rows of T tokens a step [4, 64]
MATRIX_LR = 0.02  # Muon, all matrices of the blocks [0.004, 0.1]
EMBED_LR = 0.15  # AdamW, token and value embeddings [0.02, 1.0]
HEAD_LR = 0.0015  # AdamW, output head; 0.006 costs 0.01 [0.0003, 0.02]
GATE_LR = 0.01  # AdamW, weights of counts and copies [0.001, 0.1]
SCALAR_LR = 0.02  # AdamW, residual and x0 weights [0.002, 0.2]
NGRAM_LR = 0.1  # row-wise Adagrad, n-gram tables [0.01, 1.0]
MOMENTUM = 0.95  # Muon's Nesterov momentum [0.8, 0.98]
BETA1 = 0.8  # AdamW, memory of gradients [0.6, 0.95]
BETA2 = 0.95  # AdamW, memory of their squares [0.9, 0.999]
WEIGHT_DECAY = 0.1  # cautious, on matrices, falls to 0 with the budget [0.01, 0.5]
AGAIN = 0.1  # initial weight of the embedding that each block sees again [0.0, 0.5]
WARMDOWN = 0.6  # share of the budget over which the learning rates fall [0.2, 1.0]
FINAL_LR = 0.03  # learning rate at the end, of its peak [0.005, 0.2]
if LARGE:
    # --- hyperparameters: cuda ---
    # For one H100 at 300 s: karpathy/autoresearch (AR) with what public result logs kept after it. `mar8` is
    # its branch exp/H100/mar8, LDM is arXiv 2608.15669.
    DEPTH = 9  # mar8 [4, 12]
    WIDTH = 640  # 640 to 768 at depth 8 or 9: -0.004, several logs [384, 1024]
    HEAD_DIM = 128  # AR [64, 128]
    WINDOWS = "SSSSL"  # mar8
    WINDOW_SHARE = 0.125  # mar8: 1/8, -0.0009 to -0.0015 against 1/2 [0.0625, 0.5]
    ROPE_BASE = 200000.0  # mar8, -0.0012 [10000.0, 500000.0]
    QK_SCALE = 1.15  # nanochat: 1.1 to 1.2 [0.9, 1.5]
    SOFTCAP = 15.0  # AR [10.0, 30.0]
    VALUE_EVERY = 2  # AR: every second block [0, 4]
    NGRAM_TABLES = 2  # LDM, -0.0275: the largest single gain [0, 2]
    NGRAM_ROWS = 1048576  # "millions of rows" in the best B200 logs [262144, 4194304]
    COUNT_ORDER = 0  # not measured on a GPU; 0 to 4 at a vocabulary of 8192 [0, 4]
    COPY_LENGTH = 0  # goes with COUNT_ORDER [0, 24]
    ROWS = 128  # 2^18 tokens: -0.012 against 2^19, mar8 and four other logs [64, 512]
    MATRIX_LR = 0.04  # AR [0.01, 0.1]
    EMBED_LR = 0.85  # 0.8 to 0.9: -0.003, mar8 [0.3, 1.5]
    HEAD_LR = 0.005  # -0.001, mar8 [0.002, 0.01]
    SCALAR_LR = 0.5  # AR [0.05, 1.0]
    NGRAM_LR = 0.1  # as on CPU; not measured on a GPU [0.01, 1.0]
    WEIGHT_DECAY = 0.2  # AR [0.05, 0.4]
    AGAIN = 0.05  # -0.0008, mar8 [0.0, 0.2]
    WARMDOWN = 0.75  # 0.7 to 0.87: -0.0006 to -0.0019, mar8 and others [0.4, 0.9]
    FINAL_LR = 0.05  # -0.0006, mar8 [0.0, 0.1]
# --- end ---

if DEVICE.type == "cuda" and torch.cuda.get_device_properties(0).total_memory < 40 * 2**30:
    DEPTH, WIDTH, ROWS, NGRAM_ROWS = 5, 384, 32, 262144  # a smaller card: fewer tokens, so a smaller model
CPU_BF16 = DEVICE.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
# bf16 products: 3 times as fast as fp32 where the processor has them, 60 times slower on AVX2.
ATTENTION = backend(DEVICE)


# --- model ---


def norm(x: Tensor) -> Tensor:
    """RMS norm without weights (nanochat): the next matrix can learn any scale."""
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of (B, T, H, d): pairs (i, i + d/2) turn by the position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Block(nn.Module):
    """Attention and MLP, each added to the residual stream."""

    def __init__(self, window: int, values: bool) -> None:
        super().__init__()
        self.window = window
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, MLP_RATIO * WIDTH, bias=False)
        self.down = nn.Linear(MLP_RATIO * WIDTH, WIDTH, bias=False)
        self.value_gate = nn.Linear(32, WIDTH // HEAD_DIM, bias=False) if values else None

    def forward(self, x: Tensor, value: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        h = norm(x)
        q, k, v = self.qkv(h).view(B, T, 3, WIDTH // HEAD_DIM, HEAD_DIM).unbind(2)  # each (B, T, H, d)
        if value is not None and self.value_gate is not None:
            # Value embeddings (Zhou et al. 2024) with a gate per head (nanochat): what a token is, unmixed.
            gate = 2 * torch.sigmoid(self.value_gate(h[..., :32])).unsqueeze(-1)
            v = v + gate * value.view_as(v).to(v.dtype)
        # QK-norm (Dehghani et al. 2023): bounded attention logits, so high learning rates stay stable.
        q, k = norm(rotate(q, cos, sin)) * QK_SCALE, norm(rotate(k, cos, sin)) * QK_SCALE
        y = attention(q.to(v.dtype), k.to(v.dtype), v, self.window, ATTENTION)
        x = x + self.out(y.reshape(B, T, WIDTH))
        # ReLU^2 (So et al. 2021): as good as GELU here and cheaper.
        x = x + self.down(F.relu(self.up(norm(x))).square())
        return x


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, vocab_size: int, sequence: int, bos: int) -> None:
        super().__init__()
        self.vocab_size, self.sequence = vocab_size, sequence
        self.embed = nn.Embedding(vocab_size, WIDTH)
        # Hashed bigram and trigram embeddings: what an n-gram model knows, for one look-up a token. The best
        # single change in the public 300 s logs (LDM).
        self.ngrams = nn.ModuleList(
            nn.Embedding(NGRAM_ROWS, WIDTH, sparse=DEVICE.type == "cpu" and not LARGE)
            for _ in range(NGRAM_TABLES)
        )
        short = max(1, int(sequence * WINDOW_SHARE))
        windows = [short if WINDOWS[i % len(WINDOWS)] == "S" else sequence for i in range(DEPTH - 1)]
        valued = [bool(VALUE_EVERY) and (DEPTH - 1 - i) % VALUE_EVERY == 0 for i in range(DEPTH)]
        self.values = nn.ModuleDict(
            {str(i): nn.Embedding(vocab_size, WIDTH) for i in range(DEPTH) if valued[i]}
        )
        self.blocks = nn.ModuleList(Block(w, v) for w, v in zip([*windows, sequence], valued, strict=True))
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        # Each block sees the residual stream and the embedding again, mixed by learned weights (nanochat).
        self.residual = nn.Parameter(torch.ones(DEPTH))
        self.again = nn.Parameter(torch.full((DEPTH,), AGAIN))
        self.memory = Memory(vocab_size, bos) if COUNT_ORDER else None
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.head.weight)  # the first loss is that of a uniform guess, or of the counts
        for table in self.ngrams:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        bound = math.sqrt(3 / WIDTH)
        for table in self.values.values():
            nn.init.uniform_(table.weight, -bound, bound)  # type: ignore[arg-type]
        for block in self.blocks:
            for name, weight in block.named_parameters():
                if name.startswith(("out", "down", "value_gate")):
                    nn.init.zeros_(weight)  # a block starts as the identity
                else:
                    nn.init.uniform_(weight, -bound, bound)
        angles = torch.outer(
            torch.arange(self.sequence), ROPE_BASE ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        )
        self.register_buffer("cos", angles.cos()[:, None, :], persistent=False)  # (T, 1, d/2)
        self.register_buffer("sin", angles.sin()[:, None, :], persistent=False)

    def _amp(self) -> torch.autocast:
        """bf16 products; on a CPU in training alone: the evaluator wants rows exact in any company."""
        return torch.autocast(
            DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda" or (CPU_BF16 and self.training)
        )

    def trunk(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """Tokens (B, T) to the last block's normed output (B, T, D); `seen` is what the memory found."""
        x = self.embed(tokens)
        previous = F.pad(tokens, (NGRAM_TABLES, 0))  # the row's past, zeros before its start
        hashed = tokens * 0x9E3779B1
        for distance, table in enumerate(self.ngrams, 1):
            past = previous[:, NGRAM_TABLES - distance : -distance]
            hashed = hashed * 31 + (past + 1) * 0x85EBCA6B * distance
            x = x + table(((hashed ^ (hashed >> 15)) & 0x7FFFFFFF) % NGRAM_ROWS)
        if seen is not None:
            x = x + seen
        x = first = norm(x)
        cos, sin = self.cos[: x.size(1)], self.sin[: x.size(1)]
        with self._amp():
            for i, block in enumerate(self.blocks):
                value = self.values[str(i)](tokens) if str(i) in self.values else None
                x = block(self.residual[i] * x + self.again[i] * first, value, cos, sin)
        return norm(x.float())

    def forward(self, tokens: Tensor) -> Tensor:
        if self.memory is not None:
            x, found, key, extra = self._remember(self.memory, tokens, None)
            z = torch.addmm(self.memory.bigrams[found.rows].float(), x, self.head.weight.T)
            z.view(-1).index_add_(0, key, extra)
            return z.view(*tokens.shape, self.vocab_size)
        with self._amp():
            logits: Tensor = self.head(self.trunk(tokens))
        logits = logits.float()
        # Softcap (Gemma 2): no logit runs away.
        return SOFTCAP * torch.tanh(logits / SOFTCAP) if SOFTCAP else logits

    def _remember(
        self, memory: Memory, tokens: Tensor, fold: Tensor | None
    ) -> tuple[Tensor, Found, Tensor, Tensor]:
        """The trunk's output (N, D), what the memory found, and what that adds to the logits."""
        found = memory.counts.look(tokens, fold)
        seen = memory.feature(found.features).view(*tokens.shape, WIDTH)
        x = self.trunk(tokens, seen).flatten(0, 1)
        return x, found, *memory.mix(x, found)

    def loss(self, tokens: Tensor, targets: Tensor, fold: Tensor | None = None) -> Tensor:
        """Mean cross-entropy of `forward`; `fold` (B, T) is what the memory must not know of."""
        if self.memory is None:
            return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())
        x, found, key, extra = self._remember(self.memory, tokens, fold)
        dtype = torch.bfloat16 if CPU_BF16 else torch.float32
        result: Tensor = HeadLoss.apply(  # type: ignore[no-untyped-call]
            x, self.head.weight, self.memory.bigrams, found.rows, key, extra, targets.flatten(), dtype
        )
        return result


# --- memory ---


class Memory(nn.Module):
    """Counted n-grams of the training text, and copies from earlier in the row, mixed by learned gates.

    A network needs many updates to learn what one look at the text can count. So training starts with
    counting (counts.py): the base of all logits is a smoothed bigram distribution; longer n-grams, and what
    followed earlier matches within the row (a pointer, Merity et al. 2016), add to it with weights exp(gate);
    the network learns the rest on top. The largest gain on a CPU by far.
    """

    def __init__(self, vocab_size: int, bos: int) -> None:
        super().__init__()
        self.counts = Counts(vocab_size, bos, COUNT_ORDER, COUNT_FOLDS, COUNT_DISCOUNT, COPY_LENGTH)
        self.vocab_size = vocab_size
        orders = COUNT_ORDER - 2
        self.gate = nn.Linear(WIDTH + 3 * orders, self.counts.sources)
        self.feature = nn.Linear(3 * orders, WIDTH, bias=False)
        self.register_buffer("bigrams", torch.zeros(1, vocab_size), persistent=False)
        self.slots = torch.empty(0, dtype=torch.int32)
        with torch.no_grad():
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.feature.weight)
            longer = torch.arange(orders).repeat_interleave(3).float()  # longer contexts weigh more
            self.gate.bias.copy_(torch.cat((longer, torch.linspace(-3, 2, COPY_LENGTH))))

    def count(self, stream: Any, fold: Any) -> None:
        """Count a stream of tokens; `fold` names the share of the text that each belongs to."""
        self.bigrams = self.counts.count(stream, fold, self.gate.weight.device)

    def mix(self, x: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Where to add to the (N * V) logits, in order, and log(1 + sum of exp(gate) * share / base)."""
        gate = self.gate(torch.cat((x, found.features), 1)).view(-1)
        weight = gate[found.position * self.counts.sources + found.source] + found.value
        key = found.position * self.vocab_size + found.token
        base = self.bigrams.view(-1)[found.rows[found.position] * self.vocab_size + found.token].float()
        # Several sources may name one token: each (position, token) gets the number of one of its entries.
        if len(self.slots) < len(x) * self.vocab_size:
            self.slots = torch.empty(len(x) * self.vocab_size, dtype=torch.int32, device=x.device)
        number = torch.arange(len(key), device=x.device)
        self.slots[key] = number.int()
        slot = self.slots[key].long()
        ratio = torch.zeros_like(weight).index_add(0, slot, (weight - base).clamp_max(30).exp())
        first = (slot == number).nonzero()[:, 0]
        key, order = key[first].sort()
        return key, ratio[first[order]].log1p()


# --- optimizer ---

POLAR = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of Polar Express (Amsel et al. 2025), five steps, made for singular values from 1e-3 on."""


def orthogonalise(g: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices to a stack (N, m, n), without an SVD."""
    x = g.mT if g.size(-2) > g.size(-1) else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    if DEVICE.type == "cuda":
        x = x.bfloat16()
    for a, b, c in POLAR:
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    result: Tensor = x.mT if g.size(-2) > g.size(-1) else x
    return result.float()


class MuonAdamW:
    """Muon for the blocks' matrices, AdamW for embeddings, head and scalars, Adagrad for n-gram tables.

    A plain class: importing `torch.optim` costs a second of every run's overhead.
    """

    def __init__(self, model: GPT) -> None:
        matrices = list(model.blocks.parameters())
        shapes = sorted({tuple(p.shape) for p in matrices})
        self.stacks = [[p for p in matrices if tuple(p.shape) == shape] for shape in shapes]
        self.momenta = [s[0].new_zeros(len(s), *s[0].shape) for s in self.stacks]
        self.variances = [s[0].new_zeros(len(s), s[0].size(0), 1) for s in self.stacks]
        wide = (max(WIDTH, 128) / 768) ** -0.5 if LARGE else 1.0  # AR tuned these rates at a width of 768
        self.adam: list[tuple[Tensor, float]] = [(model.head.weight, HEAD_LR * wide)]
        self.adam += [(table.weight, EMBED_LR * wide) for table in (model.embed, *model.values.values())]  # type: ignore[misc]
        self.adam += [(model.residual, SCALAR_LR * 0.01 if LARGE else SCALAR_LR), (model.again, SCALAR_LR)]
        if model.memory is not None:
            self.adam += [(p, GATE_LR) for p in model.memory.parameters()]
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in self.adam]
        self.tables: list[Tensor] = [table.weight for table in model.ngrams]  # type: ignore[misc]
        self.sums = [table.new_zeros(NGRAM_ROWS, 1) for table in self.tables]
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float, done: float) -> None:
        """One update; `scale` multiplies the learning rates, `done` is the used share of the budget."""
        self.steps += 1
        for stack, momentum, variance in zip(self.stacks, self.momenta, self.variances, strict=True):
            self._muon(stack, momentum, variance, scale, done)
        for (p, lr), (m, v) in zip(self.adam, self.moments, strict=True):
            self._adam(p, m, v, lr * scale)
        for table, total in zip(self.tables, self.sums, strict=True):
            self._adagrad(table, total, NGRAM_LR * scale)

    def _muon(
        self, stack: list[nn.Parameter], momentum: Tensor, variance: Tensor, scale: float, done: float
    ) -> None:
        """Muon (Jordan 2024) with Nesterov momentum on all matrices of one shape at once."""
        g = torch.stack([p.grad for p in stack if p.grad is not None])  # (N, m, n)
        momentum.lerp_(g, 1 - MOMENTUM)
        update = orthogonalise(g.lerp(momentum, MOMENTUM))
        # NorMuon (Li et al. 2025): even out the rows' sizes, then restore the update's total size.
        size = update.norm(dim=(-2, -1), keepdim=True)
        variance.lerp_(update.square().mean(-1, keepdim=True), 0.05)
        update = update / (variance / (1 - 0.95**self.steps)).sqrt().clamp_min(1e-8)
        update *= size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-8)
        lr = MATRIX_LR * scale * max(1.0, g.size(-2) / g.size(-1)) ** 0.5
        for p, u in zip(stack, update, strict=True):
            # Cautious weight decay (Chen et al. 2025): only where it agrees with the update.
            p.mul_(1 - MATRIX_LR * scale * WEIGHT_DECAY * (1 - done) * (u * p > 0))
            p.sub_(u, alpha=lr)

    def _adam(self, p: Tensor, m: Tensor, v: Tensor, lr: float) -> None:
        """Adam (Kingma & Ba 2014); these parameters take no weight decay."""
        if p.grad is None:
            return
        m.lerp_(p.grad, 1 - BETA1)
        v.lerp_(p.grad.square(), 1 - BETA2)
        denominator = (v / (1 - BETA2**self.steps)).sqrt_().add_(1e-10)
        p.addcdiv_(m, denominator, value=-lr / (1 - BETA1**self.steps))

    @staticmethod
    def _adagrad(table: Tensor, total: Tensor, lr: float) -> None:
        """Adagrad (Duchi et al. 2011), one sum a row: rare rows learn fast. On a CPU only this batch's."""
        assert table.grad is not None, "every table is looked up in every step"
        rows: Any = slice(None)
        values = table.grad
        if values.is_sparse:
            values = values.coalesce()
            rows, values = values.indices()[0], values.values()
        total[rows] += values.square().sum(-1, keepdim=True)
        table[rows] -= lr * values * math.sqrt(WIDTH) / total[rows].sqrt().clamp_min(1e-10)


# --- sizes ---


def flops_per_token(model: GPT) -> float:
    """Forward and backward: 6 for each weight of a matrix product, 12 * D for each token attended to."""
    matrices = sum(p.numel() for p in model.blocks.parameters()) + model.head.weight.numel()
    attended = sum(cast(Block, block).window for block in model.blocks)
    return float(6 * matrices + 12 * WIDTH * attended)


def memory_bytes(model: GPT, rows: int) -> int:
    """Weights, gradients and optimizer state in fp32, and what one pass over `rows` rows keeps."""
    tables = sum(p.numel() for p in model.ngrams.parameters())
    fixed = (
        16 * sum(p.numel() for p in model.parameters()) - 4 * tables
    )  # tables: a sum a row, a scratch copy
    kept = DEPTH * (14 + 3 * MLP_RATIO) * WIDTH * 2 + 10 * WIDTH + 10 * model.vocab_size
    return fixed + rows * model.sequence * kept


def rows_at_once(model: GPT, room: float) -> int:
    """The most rows of a step, halving, whose pass fits in `room` bytes; gradients of the passes add up."""
    rows = ROWS
    while rows > 1 and rows % 2 == 0 and memory_bytes(model, rows) > room:
        rows //= 2
    return rows


def describe(model: GPT) -> None:
    """What would be trained, on the meta device: no memory, no time."""
    groups = {"embedding": model.embed, "n-gram tables": model.ngrams, "value embeddings": model.values,
              "blocks": model.blocks, "head": model.head, "memory gates": model.memory}  # fmt: skip
    print(f"profile: {'h100' if LARGE else 'cpu'} | device: {DEVICE.type} | attention: {ATTENTION}")
    for name, part in groups.items():
        if part is not None and (size := sum(p.numel() for p in part.parameters())):
            print(f"{name + ':':18} {size / 1e6:9.3f} M parameters")
    rows = rows_at_once(model, 0.85 * 80e9)
    size = memory_bytes(model, rows)
    print(f"{'memory:':18} {size / 2**30:9.1f} GiB, estimated, {rows} of {ROWS} rows at once")
    dtype = torch.bfloat16 if CPU_BF16 else torch.float32
    flops, budget = flops_per_token(model), float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
    peak, share = peak_flops(DEVICE) or (989e12 if LARGE else cpu_flops(dtype)), 0.4 if LARGE else 0.3
    print(f"{'FLOPs per token:':18} {flops / 1e6:9.1f} M")
    print(f"{'tokens:':18} {share * peak / flops * budget / 1e6:9.1f} M in {budget:.0f} s, "
          f"at {share:.0%} of {peak / 1e12:.2f} TFLOP/s")  # fmt: skip


# --- training ---


def learning_rate(step: int, done: float) -> float:
    """1, then a straight line down over the last `WARMDOWN` of the budget.

    0 in the steps that the clock leaves out: they warm up caches and the compiler, and teach nothing.
    """
    if step < SLACK_STEPS:
        return 0.0
    return FINAL_LR + (1 - FINAL_LR) * min(1.0, (1 - done) / WARMDOWN)


class Trainer:
    """One model, its optimizer and its data; steps until the budget is used."""

    def __init__(self, model: GPT, data: Data, seed: int) -> None:
        self.model, self.data, self.seed = model, data, seed
        self.optimizer = MuonAdamW(model)
        cuda = DEVICE.type == "cuda"
        self.rows = rows_at_once(model, 0.85 * torch.cuda.mem_get_info()[0] if cuda else math.inf)
        self.loss: Any = torch.compile(model.loss, dynamic=False) if cuda else model.loss
        self.fold: Tensor | None = None
        self.retried = False

    def train(self) -> Clock:
        batches = self.data.batches(ROWS, self.seed, DEVICE)
        smooth, shown = 0.0, 0.0
        print("phase: training", flush=True)
        clock = Clock()
        began = time.monotonic()
        while not clock.over:
            if clock.steps == SLACK_STEPS and self.model.memory is not None:
                self._count(self.model.memory)  # not earlier: counting is training, the clock counts it
            value = self._gradients(next(batches))
            if not math.isfinite(value):
                raise Cheating(f"loss is {value} at step {clock.steps}")
            self.optimizer.step(learning_rate(clock.steps, clock.fraction), clock.fraction)
            clock.tick()
            smooth += (value - smooth) * max(0.05, 1 / clock.steps)
            now = time.monotonic()
            if now - shown > 0.25 or clock.over:
                shown = now
                self._show(clock, smooth, (now - began) / clock.steps)
        return clock

    def _count(self, memory: Memory) -> None:
        stream = np.asarray(self.data.streams["train"])
        fold = folds(stream, self.data.bos, COUNT_FOLDS, self.seed)
        memory.count(stream, fold)
        self.fold = torch.from_numpy(fold).to(DEVICE)

    def _gradients(self, batch: Batch) -> float:
        """Gradients of one step, in as many passes as the memory asks for; the mean loss."""
        try:
            self.model.zero_grad(set_to_none=True)
            total = 0.0
            for i in range(0, ROWS, self.rows):
                inputs, targets, places = (part[i : i + self.rows] for part in batch)
                fold = None
                if self.fold is not None:
                    fold = self.fold[places[:, None] + torch.arange(inputs.size(1), device=DEVICE)]
                loss = self.loss(inputs, targets, fold) * (len(inputs) / ROWS)
                loss.backward()
                total += float(loss.detach())
            return total
        except torch.OutOfMemoryError:
            if self.retried or self.rows == 1:
                raise
        self.retried, self.rows = True, self.rows // 2
        torch.cuda.empty_cache()
        print(f"out of memory: trying again with {self.rows} rows at once", flush=True)
        return self._gradients(batch)

    def _show(self, clock: Clock, loss: float, seconds: float) -> None:
        tokens = ROWS * self.data.sequence
        peak = peak_flops(DEVICE)
        mfu = f"| mfu: {100 * flops_per_token(self.model) * tokens / seconds / peak:.1f}% " if peak else ""
        print(
            f"step {clock.steps:05d} ({100 * clock.fraction:.1f}%) | loss: {loss:.6f} "
            f"| lrm: {learning_rate(clock.steps, clock.fraction):.2f} | dt: {1000 * seconds:.0f}ms "
            f"| tok/sec: {tokens / seconds:,.0f} {mfu}"
            f"| epoch: {clock.steps * tokens / len(self.data.streams['train']):.2f} "
            f"| remaining: {clock.budget_s * (1 - clock.fraction):.0f}s",
            flush=True,
        )


def main() -> None:
    if "--describe" in sys.argv:
        with torch.device("meta"):
            return describe(GPT(*((8192, 2048) if LARGE else (4096, 256)), 0))
    seed = int(os.environ.get("AUTORESEARCH_SEED", "1337"))
    torch.manual_seed(seed)
    data = load()
    model = GPT(data.vocab_size, data.sequence, data.bos).to(DEVICE)
    parameters = sum(p.numel() for p in model.parameters())
    trainer = Trainer(model, data, seed)
    print(
        f"device: {DEVICE.type} | attention: {ATTENTION} | data: {data.identity} "
        f"| {parameters / 1e6:.2f}M parameters | {trainer.rows} of {ROWS} rows at once"
    )
    clock = trainer.train()
    print("phase: evaluating", flush=True)
    val_bpb = evaluate(model.eval(), data, clock)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB; on Linux it counts in KB
    if DEVICE.type == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**20
    tokens = clock.steps * ROWS * data.sequence
    print("---")
    print(f"val_bpb:          {val_bpb:.6f}")
    print(f"training_seconds: {clock.elapsed_s:.1f}")
    print(f"total_seconds:    {time.time() - STARTED:.1f}")
    print(f"peak_vram_mb:     {used:.1f}")
    if (peak := peak_flops(DEVICE)) and clock.elapsed_s:
        print(f"mfu_percent:      {100 * flops_per_token(model) * tokens / clock.elapsed_s / peak:.2f}")
    print(f"total_tokens_M:   {tokens / 1e6:.3f}")
    print(f"num_steps:        {clock.steps}")
    print(f"num_params_M:     {parameters / 1e6:.3f}")
    print(f"depth:            {DEPTH}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BadData, Cheating) as error:
        sys.exit(str(error))
