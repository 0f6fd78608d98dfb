"""Trains a small GPT for a fixed time and prints its val_bpb. This is the one file that agents edit.

    python nanogpt/train.py                              train for AUTORESEARCH_BUDGET_S seconds (300)
    python nanogpt/train.py --describe [--profile h100]  show sizes, FLOPs and memory, without training

Read it from top to bottom: hyperparameters, model, memory of counted text, optimizer, sizes, training. Data,
clock and evaluation come from prepare.py and are fixed. Each technique names its source, and its worth where
that was measured; docs/benchmarks.md has the tables.
Shapes in comments: B rows, T tokens a row, N = B * T positions, D width, H heads, d width of a head, V tokens
of vocabulary, E candidates for next tokens. "-0.01" in a comment is a change of val_bpb: lower is better.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time

# ruff: noqa: E402 - this line comes before the slow imports, so that a screen shows life within milliseconds
print("phase: starting", flush=True)
STARTED = time.time()

from typing import Any, cast

import numpy as np
import torch
from attention import attention, backend
from counts import Counts, Found, folds
from fused import HeadLoss
from machine import cpu_flops, device, peak_flops
from torch import Tensor, nn
from torch.nn import functional as F

# Python looks for modules beside the script first: these are the files in this folder.
from prepare import SLACK_STEPS, BadData, BadModel, Batch, Clock, Data, evaluate, load

DEVICE = device()  # ends here with a sentence if there is a GPU that torch cannot use
# Whether to use the hyperparameters for a GPU. `--profile h100` or AUTORESEARCH_PROFILE=h100 uses them on any
# machine, for --describe and for tests.
LARGE = DEVICE.type == "cuda" or "h100" in sys.argv or os.environ.get("AUTORESEARCH_PROFILE") == "h100"

# --- hyperparameters: cpu ---
DEPTH = 2  # transformer blocks [1, 8]
WIDTH = 128  # D, width of the residual stream, a multiple of HEAD_DIM [64, 512]
HEAD_DIM = 32  # width of one attention head [16, 64]
MLP_RATIO = 4  # hidden width of the MLP, in multiples of D [2, 8]
WINDOWS = "L"  # attention of the blocks in turn: L to all tokens, S to the last few; the last is always L
WINDOW_SHARE = 1.0  # share of the T tokens that an S block attends to [0.1, 1.0]
ROPE_BASE = 10000.0  # the longest rotary wavelength is about 2 pi times this, in tokens [1000.0, 300000.0]
QK_SCALE = 1.2  # factor of queries and keys after QK-norm; more makes attention sharper [0.8, 2.0]
SOFTCAP = 0.0  # limit of the logits, without counts only; 0 none: it costs 0.04, mostly its time [0.0, 60.0]
VALUE_EVERY = 0  # 2: every second block, from the last on, has value embeddings; 0: none [0, 4]
NGRAM_TABLES = 0  # hashed n-gram embeddings: 1 bigrams, 2 also trigrams; not needed beside counts [0, 2]
NGRAM_ROWS = 65536  # rows of each such table [16384, 524288]
COUNT_ORDER = 5  # longest n-gram that is counted: 3, 4 or 5; 0 turns counting off [0, 5]
COUNT_FOLDS = 8  # shares of the text; a row of one is looked up in the counts of the others [3, 8]
COUNT_DISCOUNT = 0.75  # taken off each count and left for tokens not seen there [0.3, 0.95]
COPY_LENGTH = 12  # longest repetition in a row that gets a weight of its own; 0 copies nothing [0, 24]
ROWS = 8  # B, rows of T tokens in a step [4, 64]
MATRIX_LR = 0.02  # learning rate of Muon, for the matrices of the blocks [0.004, 0.1]
EMBED_LR = 0.15  # of AdamW, for token and value embeddings [0.02, 1.0]
HEAD_LR = 0.0015  # of AdamW, for the output head; 0.006 is 0.01 worse [0.0003, 0.02]
GATE_LR = 0.01  # of AdamW, for the weights of counts and copies [0.001, 0.1]
SCALAR_LR = 0.02  # of AdamW, for `residual` and `again` of the model [0.002, 0.2]
NGRAM_LR = 0.1  # of row-wise Adagrad, for n-gram tables [0.01, 1.0]
MOMENTUM = 0.95  # Nesterov momentum of Muon [0.8, 0.98]
BETA1 = 0.8  # of AdamW, for the running mean of gradients [0.6, 0.95]
BETA2 = 0.95  # of AdamW, for the running mean of their squares [0.9, 0.999]
WEIGHT_DECAY = 0.1  # cautious, for the matrices of the blocks; falls to 0 over the budget [0.01, 0.5]
AGAIN = 0.1  # initial weight of the token embedding that is added again before each block [0.0, 0.5]
WARMDOWN = 0.6  # the last share of the budget, in which the learning rates fall [0.2, 1.0]
FINAL_LR = 0.03  # learning rates at the end, as a share of those above [0.005, 0.2]
if LARGE:
    # --- hyperparameters: cuda ---
    # For one H100 and 300 s. The values are those of karpathy/autoresearch (AR), with the improvements that
    # public logs of its results report: mar8 is its branch exp/H100/mar8, LDM is arXiv 2608.15669.
    DEPTH = 9  # mar8 [4, 12]
    WIDTH = 640  # 640 to 768 at depth 8 or 9: -0.004 in several logs [384, 1024]
    HEAD_DIM = 128  # AR [64, 128]
    WINDOWS = "SSSSL"  # mar8
    WINDOW_SHARE = 0.125  # 1/8 against 1/2: -0.0009 to -0.0015, mar8 [0.0625, 0.5]
    ROPE_BASE = 200000.0  # -0.0012, mar8 [10000.0, 500000.0]
    QK_SCALE = 1.15  # 1.1 to 1.2 in karpathy/nanochat [0.9, 1.5]
    SOFTCAP = 15.0  # AR [10.0, 30.0]
    VALUE_EVERY = 2  # AR [0, 4]
    NGRAM_TABLES = 2  # -0.0275, LDM: the largest gain of a single change [0, 2]
    NGRAM_ROWS = 1048576  # "millions of rows" in the best logs of a B200 [262144, 4194304]
    COUNT_ORDER = 0  # counts were not measured on a GPU; 4 is the most with 8,192 tokens of vocabulary [0, 4]
    COPY_LENGTH = 0  # used only with COUNT_ORDER [0, 24]
    ROWS = 128  # 2^18 tokens against 2^19: -0.012, mar8 and four other logs [64, 512]
    MATRIX_LR = 0.04  # AR [0.01, 0.1]
    EMBED_LR = 0.85  # 0.8 to 0.9: -0.003, mar8 [0.3, 1.5]
    HEAD_LR = 0.005  # -0.001, mar8 [0.002, 0.01]
    SCALAR_LR = 0.5  # AR [0.05, 1.0]
    NGRAM_LR = 0.1  # the value for a CPU; not measured on a GPU [0.01, 1.0]
    WEIGHT_DECAY = 0.2  # AR [0.05, 0.4]
    AGAIN = 0.05  # -0.0008, mar8 [0.0, 0.2]
    WARMDOWN = 0.75  # 0.7 to 0.87: -0.0006 to -0.0019, mar8 and others [0.4, 0.9]
    FINAL_LR = 0.05  # -0.0006, mar8 [0.0, 0.1]
# --- end ---

if DEVICE.type == "cuda" and torch.cuda.get_device_properties(0).total_memory < 40 * 2**30:
    DEPTH, WIDTH, ROWS, NGRAM_ROWS = 5, 384, 32, 262144  # a slower GPU sees fewer tokens: a smaller model
# Matrix products in bf16: 3 times as fast as fp32 where the processor has them, 60 times as slow on AVX2.
CPU_BF16 = DEVICE.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
ATTENTION = backend(DEVICE)


# --- model ---


def norm(x: Tensor) -> Tensor:
    """RMS norm without weights (nanochat): the matrix that follows can learn any scale."""
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of (B, T, H, d): values i and i + d/2 are a rotated pair."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Block(nn.Module):
    """Attention over `window` tokens, then an MLP; both add to the residual stream (B, T, D)."""

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
            # Value embeddings (Zhou et al. 2024) tell a deep block the token itself. Each head has a gate for
            # them (nanochat).
            gate = 2 * torch.sigmoid(self.value_gate(h[..., :32])).unsqueeze(-1)  # (B, T, H, 1)
            v = v + gate * value.view_as(v).to(v.dtype)
        # QK-norm (Dehghani et al. 2023) bounds the attention logits, so that high learning rates stay stable.
        q, k = norm(rotate(q, cos, sin)) * QK_SCALE, norm(rotate(k, cos, sin)) * QK_SCALE
        y = attention(q.to(v.dtype), k.to(v.dtype), v, self.window, ATTENTION)
        x = x + self.out(y.reshape(B, T, WIDTH))
        # ReLU squared (So et al. 2021) is as good as GELU here, and cheaper.
        x = x + self.down(F.relu(self.up(norm(x))).square())
        return x


class GPT(nn.Module):
    """A decoder-only transformer: from tokens (B, T) to logits (B, T, V) of the token that follows each."""

    cos: Tensor  # (T, 1, d/2)
    sin: Tensor

    def __init__(self, vocab_size: int, sequence: int, bos: int) -> None:
        super().__init__()
        self.vocab_size, self.sequence = vocab_size, sequence
        self.embed = nn.Embedding(vocab_size, WIDTH)
        # Hashed bigram and trigram embeddings (LDM) give what an n-gram model knows for one look-up a token.
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
        # The input of each block is the residual stream plus the embedding, with learned weights (nanochat).
        self.residual = nn.Parameter(torch.ones(DEPTH))
        self.again = nn.Parameter(torch.full((DEPTH,), AGAIN))
        self.memory = Memory(vocab_size, bos) if COUNT_ORDER else None
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Set all weights to where training starts (nanochat), and compute the rotary angles."""
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.head.weight)  # the first loss is that of a uniform guess, or of the counts alone
        for table in self.ngrams:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        bound = math.sqrt(3 / WIDTH)  # a uniform distribution with the standard deviation 1 / sqrt(D)
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
        """Compute matrix products in bf16, but not in an evaluation on a CPU: its checks are more exact."""
        return torch.autocast(
            DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda" or (CPU_BF16 and self.training)
        )

    def trunk(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the last block's normed output (B, T, D); `seen` (B, T, D) is added to the embedding."""
        x = self.embed(tokens)
        previous = F.pad(tokens, (NGRAM_TABLES, 0))  # before its start a row has tokens 0
        hashed = tokens * 0x9E3779B1
        for distance, table in enumerate(self.ngrams, 1):
            # The hash of the last distance + 1 tokens. The factors are odd numbers that mix the bits well.
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
        """Return the logits (B, T, V) for tokens (B, T), with the counts of all training text."""
        if self.memory is not None:
            x, found, key, extra = self._remember(self.memory, tokens, None)
            # (N, V): the bigram counts, plus the head, plus what longer n-grams and copies add.
            z = torch.addmm(self.memory.bigrams[found.rows].float(), x, self.head.weight.T)
            z.view(-1).index_add_(0, key, extra)
            return z.view(*tokens.shape, self.vocab_size)
        with self._amp():
            logits: Tensor = self.head(self.trunk(tokens))
        logits = logits.float()
        # Softcap (Gemma 2) keeps all logits within +-SOFTCAP.
        return SOFTCAP * torch.tanh(logits / SOFTCAP) if SOFTCAP else logits

    def _remember(
        self, memory: Memory, tokens: Tensor, fold: Tensor | None
    ) -> tuple[Tensor, Found, Tensor, Tensor]:
        """Return the trunk's output (N, D), what the memory found, and what it adds where (`Memory.mix`)."""
        found = memory.counts.look(tokens, fold)
        seen = memory.feature(found.features).view(*tokens.shape, WIDTH)
        x = self.trunk(tokens, seen).flatten(0, 1)
        return x, found, *memory.mix(x, found)

    def loss(self, tokens: Tensor, targets: Tensor, fold: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy in nats of predicting `targets` (B, T) from `tokens` (B, T).

        `fold` (B, T) is the fold of each target, whose counts the memory leaves out.
        """
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
    """Counted n-grams of the training text, and copies from earlier in the row, weighted by learned gates.

    A network needs many updates to learn what can be counted in one pass over the text. So training counts
    first (counts.py), and the network learns the rest. The base of the logits are the log-probabilities of a
    smoothed bigram model. Longer n-grams, and what followed the same tokens earlier in the row (a pointer,
    Merity et al. 2016), add candidates, each with the weight exp(gate) of its source at that position. The
    largest gain on a CPU: after 20 s val_bpb is 1.26 with it and 2.09 without.
    """

    def __init__(self, vocab_size: int, bos: int) -> None:
        super().__init__()
        self.counts = Counts(vocab_size, bos, COUNT_ORDER, COUNT_FOLDS, COUNT_DISCOUNT, COPY_LENGTH)
        self.vocab_size = vocab_size
        orders = COUNT_ORDER - 2
        self.gate = nn.Linear(WIDTH + 3 * orders, self.counts.sources)
        self.feature = nn.Linear(3 * orders, WIDTH, bias=False)
        self.register_buffer("bigrams", torch.zeros(1, vocab_size), persistent=False)
        self.slots = torch.empty(0, dtype=torch.int32)  # scratch space of `mix`
        with torch.no_grad():
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.feature.weight)
            longer = torch.arange(orders).repeat_interleave(3).float()  # longer ones start heavier
            self.gate.bias.copy_(torch.cat((longer, torch.linspace(-3, 2, COPY_LENGTH))))

    def count(self, stream: Any, fold: Any) -> None:
        """Count the training text: `stream` holds its tokens, `fold` the fold of each (see `Counts`)."""
        self.bigrams = self.counts.count(stream, fold, self.gate.weight.device)

    def merge_folds(self) -> None:
        """Forget the folds, which only training needs, and the scratch space."""
        self.bigrams, self.slots = self.counts.merge_folds(self.bigrams), self.slots[:0].clone()

    def mix(self, x: Tensor, found: Found) -> tuple[Tensor, Tensor]:
        """Return sorted places in the flat (N * V) logits and what the candidates add there.

        Candidates with shares s and gates g make a token's probability p, before normalisation, p + sum of
        exp(g) * s: they add log(1 + sum of exp(g) * s / p) to its logit.
        """
        gate = self.gate(torch.cat((x, found.features), 1)).view(-1)
        weight = gate[found.position * self.counts.sources + found.source] + found.value
        key = found.position * self.vocab_size + found.token
        base = self.bigrams.view(-1)[found.rows[found.position] * self.vocab_size + found.token].float()
        # Sum candidates that name the same token at the same position in one slot, the number of one of them.
        if len(self.slots) < len(x) * self.vocab_size:
            self.slots = torch.empty(len(x) * self.vocab_size, dtype=torch.int32, device=x.device)
        number = torch.arange(len(key), device=x.device)
        self.slots[key] = number.int()
        slot = self.slots[key].long()
        ratio = torch.zeros_like(weight).index_add(0, slot, (weight - base).clamp_max(30).exp())
        first = (slot == number).nonzero()[:, 0]
        key, order = key[first].sort()  # HeadLoss wants the places sorted
        return key, ratio[first[order]].log1p()


# --- optimizer ---

POLAR = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of the five steps of Polar Express (Amsel et al. 2025), for singular values from 1e-3 on."""


def orthogonalise(g: Tensor) -> Tensor:
    """Return the nearest (semi-)orthogonal matrix to each of a stack (n, rows, columns), without an SVD.

    Each step applies a x + b x^3 + c x^5 to the singular values, which brings them close to 1.
    """
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
    """Muon for the matrices of the blocks, AdamW for embeddings, head and scalars, Adagrad for n-gram tables.

    It does not derive from a class of `torch.optim`, because importing that takes more than a second.
    """

    def __init__(self, model: GPT) -> None:
        matrices = list(model.blocks.parameters())
        shapes = sorted({tuple(p.shape) for p in matrices})
        self.stacks = [[p for p in matrices if tuple(p.shape) == shape] for shape in shapes]
        self.momenta = [s[0].new_zeros(len(s), *s[0].shape) for s in self.stacks]
        self.variances = [s[0].new_zeros(len(s), s[0].size(0), 1) for s in self.stacks]
        wide = (max(WIDTH, 128) / 768) ** -0.5 if LARGE else 1.0  # AR's rates are for a width of 768
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
        """Update all parameters; `scale` multiplies the rates, `done` is the used share of the budget."""
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
        """Muon (Jordan 2024) with Nesterov momentum, for all matrices of one shape at once."""
        g = torch.stack([p.grad for p in stack if p.grad is not None])  # (n, rows, columns)
        momentum.lerp_(g, 1 - MOMENTUM)
        update = orthogonalise(g.lerp(momentum, MOMENTUM))
        # NorMuon (Li et al. 2025) gives rows of the update equal sizes, then the whole its old size.
        size = update.norm(dim=(-2, -1), keepdim=True)
        variance.lerp_(update.square().mean(-1, keepdim=True), 0.05)
        update = update / (variance / (1 - 0.95**self.steps)).sqrt().clamp_min(1e-8)
        update *= size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-8)
        lr = MATRIX_LR * scale * max(1.0, g.size(-2) / g.size(-1)) ** 0.5
        for p, u in zip(stack, update, strict=True):
            # Cautious weight decay (Chen et al. 2025): only where it has the direction of the update.
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
        """Adagrad (Duchi et al. 2011), one sum of squares a row. On a CPU it touches only rows looked up."""
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
    """Return the FLOPs of a token, forward and backward (Chowdhery et al. 2022, appendix B).

    They are 6 for each weight of a matrix product, and 12 * D for each token attended to in each block.
    """
    matrices = sum(p.numel() for p in model.blocks.parameters()) + model.head.weight.numel()
    attended = sum(cast(Block, block).window for block in model.blocks)
    return float(6 * matrices + 12 * WIDTH * attended)


def memory_bytes(model: GPT, rows: int) -> int:
    """Estimate the memory, in bytes, that training takes with `rows` rows in one pass.

    `fixed`: weight, gradient and two moments of each parameter, but for n-gram tables a scratch copy in place
    of moments. `kept`: what the forward pass keeps of a token for the backward pass.
    """
    tables = sum(p.numel() for p in model.ngrams.parameters())
    fixed = 16 * sum(p.numel() for p in model.parameters()) - 4 * tables
    kept = DEPTH * (14 + 3 * MLP_RATIO) * WIDTH * 2 + 10 * WIDTH + 10 * model.vocab_size
    return fixed + rows * model.sequence * kept


def rows_at_once(model: GPT, room: float) -> int:
    """Return how many rows to pass at once to fit in `room` bytes: `ROWS` or a half, quarter, ... of it."""
    rows = ROWS
    while rows > 1 and rows % 2 == 0 and memory_bytes(model, rows) > room:
        rows //= 2
    return rows


def describe(model: GPT) -> None:
    """Print sizes, estimated memory, and the tokens of the budget at an assumed share of the peak speed."""
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
    """Return the factor of all learning rates: 1, then a straight line down to `FINAL_LR` over `WARMDOWN`.

    It is 0 in the steps that the clock leaves out, which warm up caches and the compiler and must not teach.
    """
    if step < SLACK_STEPS:
        return 0.0
    return FINAL_LR + (1 - FINAL_LR) * min(1.0, (1 - done) / WARMDOWN)


class Diverged(Exception):
    """The loss is not a finite number any more, so there is nothing left to train."""


class Trainer:
    """Trains one model until the budget is used up."""

    def __init__(self, model: GPT, data: Data, seed: int) -> None:
        self.model, self.data, self.seed = model, data, seed
        self.optimizer = MuonAdamW(model)
        cuda = DEVICE.type == "cuda"
        self.rows = rows_at_once(model, 0.85 * torch.cuda.mem_get_info()[0] if cuda else math.inf)
        self.loss: Any = torch.compile(model.loss, dynamic=False) if cuda else model.loss
        self.fold: Tensor | None = None
        self.retried = False

    def train(self) -> Clock:
        """Train, print progress about four times a second, and return the clock. Raises `Diverged`."""
        batches = self.data.batches(ROWS, self.seed, DEVICE)
        smooth, shown = 0.0, 0.0
        print("phase: training", flush=True)
        clock = Clock()
        began = time.monotonic()
        while not clock.over:
            if clock.steps == SLACK_STEPS and self.model.memory is not None:
                self._count(self.model.memory)  # not earlier: counting is training, so its time must count
            value = self._gradients(next(batches))
            if not math.isfinite(value):
                raise Diverged(f"loss is {value} at step {clock.steps}")
            self.optimizer.step(learning_rate(clock.steps, clock.fraction), clock.fraction)
            clock.tick()
            smooth += (value - smooth) * max(0.05, 1 / clock.steps)
            now = time.monotonic()
            if now - shown > 0.25 or clock.over:
                shown = now
                self._show(clock, smooth, (now - began) / clock.steps)
        return clock

    def _count(self, memory: Memory) -> None:
        """Give the memory the counts of the training text, and keep the fold of each of its tokens."""
        stream = np.asarray(self.data.streams["train"])
        fold = folds(stream, self.data.bos, COUNT_FOLDS, self.seed)
        memory.count(stream, fold)
        self.fold = torch.from_numpy(fold).to(DEVICE)

    def _gradients(self, batch: Batch) -> float:
        """Compute the gradients of one step and return its mean loss in nats.

        A pass takes `self.rows` rows, and the gradients of the passes add up. If memory runs out, it tries
        again with half as many rows a pass, once.
        """
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
        """Print one line of progress; `loss` is smoothed, `seconds` is the mean time of a step."""
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
    """Train and evaluate one model and print the summary, or with `--describe` only its sizes."""
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
    if model.memory is not None:
        model.memory.merge_folds()
    print("---")
    evaluate(model.eval(), data, clock)  # prints val_bpb, unless the judge is to measure the model
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB; on Linux it counts in KB
    if DEVICE.type == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**20
    tokens = clock.steps * ROWS * data.sequence
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
    except (BadData, BadModel, Diverged) as error:
        sys.exit(str(error))
