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

import gc
import math
import os
import resource
import sys
import time

# ruff: noqa: E402 - this line comes before the slow imports, so that a screen shows life within milliseconds
print("phase: starting", flush=True)
STARTED = time.time()
# Memory of a GPU in pieces that can grow: else much of it is lost between pieces. CUDA reads it once.
os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

from typing import Any, cast

import torch
from attention import attention, backend
from counts import Counts, Shares, folds, repeats
from machine import device, peak_flops
from polar import orthogonalise
from torch import Tensor, nn
from torch.nn import functional as F

# Python looks for modules beside the script first: these are the files in this folder.
from prepare import SLACK_STEPS, BadData, BadModel, Batch, Clock, Data, evaluate, load

DEVICE = device()  # ends here with a sentence if there is a GPU that torch cannot use
# The hyperparameters to use: those for a CPU, `h100`, or `24gb` for GPUs with less than 36 GiB of memory.
# `--profile h100` or AUTORESEARCH_PROFILE=h100 uses them on any machine, for --describe and for tests.
PROFILE = os.environ.get("AUTORESEARCH_PROFILE") or next((p for p in ("h100", "24gb") if p in sys.argv), "")
if not PROFILE and DEVICE.type == "cuda":
    PROFILE = "h100" if torch.cuda.get_device_properties(0).total_memory >= 36 * 2**30 else "24gb"
LARGE, SMALL = PROFILE in ("h100", "24gb"), PROFILE == "24gb"

# --- hyperparameters: cpu ---
DEPTH = 2  # transformer blocks [1, 8]
WIDTH = 128  # D, width of the residual stream, a multiple of HEAD_DIM [64, 512]
HEAD_DIM = 32  # width of one attention head [16, 64]
MLP_RATIO = 4  # hidden width of the MLP, in multiples of D [2, 8]
WINDOWS = "L"  # attention of the blocks in turn: L to all tokens, S to the last few; the last is always L
WINDOW_SHARE = 1.0  # share of the T tokens that an S block attends to [0.1, 1.0]
ROPE_BASE = 10000.0  # the longest rotary wavelength is about 2 pi times this, in tokens [1000.0, 300000.0]
QK_SCALE = 1.2  # factor of queries and keys after QK-norm; more makes attention sharper [0.8, 2.0]
SOFTCAP = 0.0  # limit of the logits; 0 none: beside counts it costs 0.04, mostly its time [0.0, 60.0]
VALUE_EVERY = 0  # 2: every second block, from the last on, has value embeddings; 0: none [0, 4]
NGRAM_TABLES = 0  # hashed n-gram embeddings: 1 bigrams, 2 also trigrams; not needed beside counts [0, 2]
NGRAM_ROWS = 65536  # rows of each such table; only with NGRAM_TABLES [16384, 524288]
COUNT_ORDER = 5  # longest n-gram that is counted: 3, 4 or 5; 0 turns counting off [0, 5]
COUNT_FOLDS = 8  # shares of the text; one is looked up in the others; only with COUNT_ORDER [3, 8]
COUNT_LEAST = 1  # rarer contexts of two and more tokens are forgotten; only with COUNT_ORDER [1, 4]
COUNT_TOKENS = 2**28  # count at most this many tokens, from the start of the text; uses memory and time
COUNT_DISCOUNT = 0.75  # taken off each count for tokens not seen there; only with COUNT_ORDER [0.3, 0.95]
BIGRAM_BASE = True  # logits start from those of counted bigrams: 1.093 -> 1.053 after 150 s
COPY_LENGTH = 12  # longest repetition in a row with a weight of its own; only with COUNT_ORDER [0, 24]
ROWS = 8  # B, rows of T tokens in a step [4, 64]
MATRIX_LR = 0.02  # learning rate of Muon, for the matrices of the blocks [0.004, 0.1]
EMBED_LR = 0.15  # of AdamW, for token and value embeddings [0.02, 1.0]
HEAD_LR = 0.0015  # of AdamW, for the output head; 0.006 is 0.01 worse [0.0003, 0.02]
GATE_LR = 0.01  # of AdamW, for the weights of counts and copies; only with COUNT_ORDER [0.001, 0.1]
SCALAR_LR = 0.02  # of AdamW, for `residual` and `again` of the model [0.002, 0.2]
NGRAM_LR = 0.1  # of row-wise Adagrad, for n-gram tables; only with NGRAM_TABLES [0.01, 1.0]
MOMENTUM = 0.95  # Nesterov momentum of Muon [0.8, 0.98]
MOMENTUM_START = 0.95  # the same in the first step; only with MOMENTUM_STEPS [0.7, 0.98]
MOMENTUM_STEPS = 1  # steps until it is MOMENTUM [1, 500]
BETA1 = 0.8  # of AdamW, for the running mean of gradients [0.6, 0.95]
BETA2 = 0.95  # of AdamW, for the running mean of their squares [0.9, 0.999]
WEIGHT_DECAY = 0.1  # cautious, for the matrices of the blocks; falls to 0 over the budget [0.01, 0.5]
HEAD_DECAY = 0.0  # the same for the output head, in the share of its rate [0.0, 0.05]
EMBED_DECAY = 0.0  # for token embeddings [0.0, 0.01]
VALUE_DECAY = 0.0  # for value embeddings; only with VALUE_EVERY [0.0, 0.02]
SCALE = 1.0  # factor of the initial weights of the blocks and of value embeddings [0.3, 1.5]
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
    NGRAM_ROWS = 1048576  # "millions" in the best logs of a B200; only with NGRAM_TABLES [262144, 4194304]
    COUNT_ORDER = 4  # the most with 8,192 tokens of vocabulary; 0 turns counts and copies off [0, 4]
    COUNT_FOLDS = 4  # fewer take less memory; only with COUNT_ORDER [2, 8]
    COUNT_LEAST = 2  # without contexts that occur once a third of the memory; only with COUNT_ORDER [1, 4]
    BIGRAM_BASE = False  # not measured on a GPU
    COPY_LENGTH = 4  # longest repetition that is a source of its own; only with COUNT_ORDER [1, 8]
    ROWS = 128  # 2^18 tokens against 2^19: -0.012, mar8 and four other logs [64, 512]
    MATRIX_LR = 0.04  # AR [0.01, 0.1]
    EMBED_LR = 0.8  # 0.6 to 0.8: -0.003; 0.9 only pays with EMBED_DECAY, mar8 [0.3, 1.5]
    HEAD_LR = 0.005  # -0.001, mar8 [0.002, 0.01]
    SCALAR_LR = 0.5  # AR [0.05, 1.0]
    NGRAM_LR = 0.1  # the value for a CPU; not measured on a GPU; only with NGRAM_TABLES [0.01, 1.0]
    MOMENTUM_START = 0.85  # AR
    MOMENTUM_STEPS = 200  # AR has 300; 200, mar8 [1, 500]
    WEIGHT_DECAY = 0.2  # AR [0.05, 0.4]
    HEAD_DECAY = 0.01  # karpathy/nanochat [0.0, 0.05]
    EMBED_DECAY = 0.001  # karpathy/nanochat [0.0, 0.01]
    VALUE_DECAY = 0.003  # 0.003 to 0.01: -0.0015 in two logs; only with VALUE_EVERY [0.0, 0.02]
    SCALE = 0.68  # mar8 [0.3, 1.5]
    AGAIN = 0.05  # -0.0008, mar8 [0.0, 0.2]
    WARMDOWN = 0.75  # 0.7 to 0.87: -0.0006 to -0.0019, mar8 and others [0.4, 0.9]
    FINAL_LR = 0.05  # -0.0006, mar8 [0.0, 0.1]
# --- end ---

if SMALL:  # a slower GPU sees fewer tokens, and has less memory: a smaller model
    DEPTH, WIDTH, ROWS, NGRAM_ROWS, COUNT_TOKENS = 5, 384, 32, 262144, 2**26
ROOM_SHARE = 0.92  # share of a GPU's free memory to plan with
COUNT_BYTES = 20  # memory of the counts for each counted token, with COUNT_LEAST = 2 (docs/trainer.md)
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
        # It comes before the rotation, whose cos and sin carry QK_SCALE: no rotated copy has to be kept.
        q, k = rotate(norm(q), cos, sin), rotate(norm(k), cos, sin)
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
        self.ngrams = nn.ModuleList(nn.Embedding(NGRAM_ROWS, WIDTH, sparse=True) for _ in range(NGRAM_TABLES))
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
        bound = SCALE * math.sqrt(3 / WIDTH)  # a uniform distribution with the deviation SCALE / sqrt(D)
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

    def grams(self, tokens: Tensor) -> Tensor | None:
        """Return the sum of the hashed n-gram embeddings (B, T, D), or None without tables.

        This is not part of the compiled model, so that gradients exist only for rows that were looked up.
        """
        total, past = None, F.pad(tokens, (NGRAM_TABLES, 0))  # before its start a row has tokens 0
        hashed = tokens * 0x9E3779B1
        for distance, table in enumerate(self.ngrams, 1):
            # The hash of the last distance + 1 tokens. The factors are odd numbers that mix the bits well.
            previous = past[:, NGRAM_TABLES - distance : -distance]
            hashed = hashed * 31 + (previous + 1) * 0x85EBCA6B * distance
            found = table(((hashed ^ (hashed >> 15)) & 0x7FFFFFFF) % NGRAM_ROWS)
            total = found if total is None else total + found
        return total

    def trunk(self, tokens: Tensor, *more: Tensor | None) -> Tensor:
        """Return the last block's normed output (B, T, D); `more` (B, T, D) is added to the embedding."""
        # On a GPU, bf16 halves the memory traffic between matrix products (nanochat).
        dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
        x = F.embedding(tokens, self.embed.weight.to(dtype))
        for part in more:
            x = x if part is None else x + part.to(dtype)
        first = x = norm(x)
        cos, sin = ((QK_SCALE * part[: x.size(1)]).to(dtype) for part in (self.cos, self.sin))
        with self._amp():
            for i, block in enumerate(self.blocks):
                table = cast(Tensor, self.values[str(i)].weight) if str(i) in self.values else None
                value = None if table is None else F.embedding(tokens, table.to(dtype))
                x = block(self.residual[i] * x + self.again[i] * first, value, cos, sin)
        return norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, T, V) for tokens (B, T), with the counts of all training text."""
        if self.memory is None:
            return self.logits(self.trunk(tokens, self.grams(tokens)))
        found = self.memory.counts.shares(self.memory.bigrams, tokens, tokens, None)
        x, features, _, _ = self._know(tokens, tokens, self.grams(tokens), found)
        weight = self.memory.weight(x.flatten(0, 1), features)
        said = self.memory.counts.spread(self.memory.bigrams, tokens, weight).view(*tokens.shape, -1)
        base = self.memory.counts.rows(tokens, None) if BIGRAM_BASE else None
        return said.add_(self.logits(x, base).softmax(-1)).log_()

    def logits(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """Return the logits (B, T, V) of the trunk's output, on top of bigram rows `base` (N,)."""
        with self._amp():
            z: Tensor = self.head(x)
        z = z.float()
        if SOFTCAP:  # keeps all logits within +-SOFTCAP (Gemma 2)
            z = SOFTCAP * torch.tanh(z / SOFTCAP)
        return z if base is None or self.memory is None else z + self.memory.bigrams[base].view_as(z)

    def log_probabilities(self, tokens: Tensor, targets: Tensor, fold: Tensor | None = None) -> Tensor:
        """Return the log-probability (B, T) of each target (B, T): what `forward` says of this one token.

        Training makes it larger, and the judge asks for it: it must agree with `forward`, which has to prove
        it. `fold` (B, T) is the fold of each target, whose counts the memory leaves out.
        """
        found = base = None
        if self.memory is not None:
            found = self.memory.counts.shares(self.memory.bigrams, tokens, targets, fold)
            base = self.memory.counts.rows(tokens, fold) if BIGRAM_BASE else None
        return self.dense(tokens, targets, self.grams(tokens), found, base)

    def dense(
        self, tokens: Tensor, targets: Tensor, grams: Tensor | None, found: Shares | None, base: Tensor | None
    ) -> Tensor:
        """Return `log_probabilities` from what was looked up: the part that is compiled for a GPU."""
        if self.memory is None or found is None:
            z = self.logits(self.trunk(tokens, grams)).flatten(0, 1)
            return -F.cross_entropy(z, targets.flatten(), reduction="none").view_as(targets)
        x, features, share, mass = self._know(tokens, targets, grams, found)
        nats = F.cross_entropy(self.logits(x, base).flatten(0, 1), targets.flatten(), reduction="none")
        weight = self.memory.weight(x.flatten(0, 1), features)
        mixed = torch.logaddexp(-nats, (weight * share).sum(1).clamp_min(1e-30).log())
        return (mixed - (weight * mass).sum(1).log1p()).view_as(targets)

    def _know(
        self, tokens: Tensor, targets: Tensor, grams: Tensor | None, found: Shares
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the trunk's output (B, T, D), and features, share and mass of all sources (`Memory`)."""
        assert self.memory is not None
        many, hits = (part.flatten(0, 1) for part in repeats(tokens, targets, self.memory.bos, COPY_LENGTH))
        features = torch.cat((found.features, many.log1p()), 1)
        with self._amp():
            seen = self.memory.feature(features).view(*tokens.shape, WIDTH)
        share = torch.cat((found.share, hits / many.clamp_min(1)), 1)
        mass = torch.cat((found.mass, (many > 0).float()), 1)
        return self.trunk(tokens, grams, seen), features, share, mass


# --- memory ---


class Memory(nn.Module):
    """Counted n-grams of the training text, and copies from the document, weighted by learned gates.

    A network needs many updates to learn what can be counted in one pass over the text. So training counts
    first (counts.py), and the network learns the rest. Each source (bigrams, longer n-grams, and what
    followed the last 1 to COPY_LENGTH tokens earlier in the document, as in a pointer network, Merity et al.
    2016) is a distribution of the next token, and so is the network's, which with BIGRAM_BASE only corrects
    the bigrams. The result is their weighted mean.
    Gates, which see the trunk's output and how much was counted, set the weights at each position. For a loss
    only the target's share is needed, so all shapes are fixed and a compiler can do its work.

    The largest gain there is: docs/trainer.md has its worth. modded-nanogpt, PR 367, reports a third of the
    training time for copies from earlier text.
    """

    def __init__(self, vocab_size: int, bos: int) -> None:
        super().__init__()
        self.counts = Counts(
            vocab_size, bos, COUNT_ORDER, COUNT_FOLDS, COUNT_DISCOUNT, COPY_LENGTH, COUNT_LEAST
        )
        self.bos, orders = bos, COUNT_ORDER - 2
        features = 2 * orders + COPY_LENGTH
        self.gate = nn.Linear(WIDTH + features, 1 + orders + COPY_LENGTH)
        self.feature = nn.Linear(features, WIDTH, bias=False)
        self.register_buffer("bigrams", torch.zeros(1, vocab_size), persistent=False)
        with torch.no_grad():
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.feature.weight)
            nn.init.constant_(self.gate.bias, -1)

    def count(self, stream: Tensor, fold: Tensor) -> None:
        """Count the training text: `stream` holds its tokens, `fold` the fold of each (see `Counts`)."""
        self.bigrams = self.counts.count(stream, fold)

    def merge_folds(self) -> None:
        """Forget the folds, which only training needs."""
        self.bigrams = self.counts.merge_folds(self.bigrams)

    def weight(self, x: Tensor, features: Tensor) -> Tensor:
        """Return the weight of each source (N, sources) from x (N, D); the network has the weight 1."""
        gate = self.gate.weight
        z = F.linear(x, gate[:, :WIDTH].to(x.dtype)) + F.linear(features, gate[:, WIDTH:], self.gate.bias)
        return z.clamp(-15, 15).exp()


# --- optimizer ---


def mean_square(x: Tensor) -> Tensor:
    """Return the mean square of each row (n, rows, 1), or of each column if those are more (nanochat)."""
    return x.square().mean(-1 if x.size(-2) >= x.size(-1) else -2, keepdim=True)


def muon(
    p: Tensor,
    g: Tensor,
    mean: Tensor,
    variance: Tensor,
    momentum: Tensor,
    seen: Tensor,
    rate: Tensor,
    decay: Tensor,
) -> Tensor:
    """Muon (Jordan 2024) with Nesterov momentum, for all matrices of one shape at once.

    p, g, mean (n, rows, columns): weights, gradients, their running mean; variance (n, rows, 1) or
    (n, 1, columns). The others are numbers. Returns the new weights; updates `mean` and `variance` in place.
    """
    mean.lerp_(g, 1 - momentum)
    update = orthogonalise(g.lerp(mean, momentum))
    # NorMuon (Li et al. 2025) gives rows of the update equal sizes, then the whole its old size.
    size = update.norm(dim=(-2, -1), keepdim=True)
    variance.lerp_(mean_square(update), 0.05)
    update = update / (variance / seen).sqrt().clamp_min(1e-8)
    update = update * (size / update.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-8))
    # Cautious weight decay (Chen et al. 2025): only where it has the direction of the update.
    result: Tensor = p - decay * p * (update * p > 0) - rate * update
    return result


class MuonAdamW:
    """Muon for the matrices of the blocks, AdamW for embeddings, head and scalars, Adagrad for n-gram tables.

    It does not derive from a class of `torch.optim`, because importing that takes more than a second.
    """

    def __init__(self, model: GPT) -> None:
        matrices = list(model.blocks.parameters())
        shapes = sorted({tuple(p.shape) for p in matrices})
        self.stacks: list[list[Tensor]] = [[p for p in matrices if tuple(p.shape) == s] for s in shapes]
        self.momenta = [s[0].new_zeros(len(s), *s[0].shape) for s in self.stacks]
        self.variances = [mean_square(m) for m in self.momenta]
        wide = (max(WIDTH, 128) / 768) ** -0.5 if LARGE else 1.0  # AR's rates are for a width of 768
        # Parameters of AdamW, each with its learning rate and its weight decay.
        self.adam: list[tuple[Tensor, float, float]] = [(model.head.weight, HEAD_LR * wide, HEAD_DECAY)]
        self.adam += [(model.embed.weight, EMBED_LR * wide, EMBED_DECAY)]
        self.adam += [(table.weight, EMBED_LR * wide, VALUE_DECAY) for table in model.values.values()]  # type: ignore[misc]
        self.adam += [
            (model.residual, SCALAR_LR * (0.01 if LARGE else 1), 0.0),
            (model.again, SCALAR_LR, 0.0),
        ]
        if model.memory is not None:
            self.adam += [(p, GATE_LR, 0.0) for p in model.memory.parameters()]
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _, _ in self.adam]
        self.tables: list[Tensor] = [table.weight for table in model.ngrams]  # type: ignore[misc]
        self.sums = [table.new_zeros(NGRAM_ROWS, 1) for table in self.tables]
        self.muon: Any = muon
        self.steps = 0

    @torch.no_grad()
    def step(self, scale: float, done: float) -> None:
        """Update all parameters; `scale` multiplies the rates, `done` is the used share of the budget."""
        self.steps += 1
        warm = min(1.0, self.steps / MOMENTUM_STEPS)
        momentum = MOMENTUM_START + (MOMENTUM - MOMENTUM_START) * warm
        for stack, mean, variance in zip(self.stacks, self.momenta, self.variances, strict=True):
            rate = MATRIX_LR * scale * max(1.0, mean.size(1) / mean.size(2)) ** 0.5
            # Tensors, because a compiler makes new code for each new value of a number.
            numbers = (momentum, 1 - 0.95**self.steps, rate, rate * WEIGHT_DECAY * (1 - done))
            tensors = [torch.tensor(number, device=DEVICE) for number in numbers]
            weights, grads = torch.stack(stack), torch.stack([p.grad for p in stack if p.grad is not None])
            torch._foreach_copy_(stack, list(self.muon(weights, grads, mean, variance, *tensors).unbind()))
        for (p, lr, decay), (m, v) in zip(self.adam, self.moments, strict=True):
            self._adam(p, m, v, lr * scale, lr * scale * decay)
        for table, total in zip(self.tables, self.sums, strict=True):
            self._adagrad(table, total, NGRAM_LR * scale)

    def _adam(self, p: Tensor, m: Tensor, v: Tensor, lr: float, decay: float) -> None:
        """AdamW (Loshchilov & Hutter 2017)."""
        if p.grad is None:
            return
        if decay:
            p.mul_(1 - decay)
        m.lerp_(p.grad, 1 - BETA1)
        v.lerp_(p.grad.square(), 1 - BETA2)
        denominator = (v / (1 - BETA2**self.steps)).sqrt_().add_(1e-10)
        p.addcdiv_(m, denominator, value=-lr / (1 - BETA1**self.steps))

    @staticmethod
    def _adagrad(table: Tensor, total: Tensor, lr: float) -> None:
        """Adagrad (Duchi et al. 2011) of the rows that were looked up, one sum of squares a row."""
        assert table.grad is not None, "every table is looked up in every step"
        grad = table.grad.coalesce()
        rows, values = grad.indices()[0], grad.values()
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

    `fixed`: weight, gradient and two moments of each parameter, but weights alone of n-gram tables.
    `kept`: what the forward pass keeps of a token for the backward pass, and gradients of rows of tables;
    from the compiled model's graph (docs/trainer.md).
    """
    tables = sum(p.numel() for p in model.ngrams.parameters())
    fixed = 16 * sum(p.numel() for p in model.parameters()) - 12 * tables
    kept = DEPTH * (8 + 3 * MLP_RATIO) * WIDTH * 2 + (20 + 8 * NGRAM_TABLES) * WIDTH + 4 * model.vocab_size
    return fixed + counts_bytes(model)[0] + rows * model.sequence * kept


def counts_bytes(model: GPT) -> tuple[int, int]:
    """Estimate the memory, in bytes, of the counts of COUNT_TOKENS tokens, and of making them."""
    if model.memory is None:
        return 0, 0
    tables = 2 * (COUNT_FOLDS + 1) * model.vocab_size**2
    return tables + COUNT_BYTES * COUNT_TOKENS, tables + 64 * COUNT_TOKENS


def rows_at_once(model: GPT, room: float) -> int:
    """Return how many rows to pass at once to fit in `room` bytes: `ROWS` or a half, quarter, ... of it."""
    rows = ROWS
    while rows > 1 and rows % 2 == 0 and memory_bytes(model, rows) > room:
        rows //= 2
    return rows


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
        self.compiled = DEVICE.type == "cuda"
        self.rows = rows_at_once(
            model, ROOM_SHARE * torch.cuda.mem_get_info()[0] if self.compiled else math.inf
        )
        if self.compiled:
            model.dense = torch.compile(model.dense, dynamic=False)  # type: ignore[method-assign]
            self.optimizer.muon = torch.compile(muon, dynamic=False)
        self.fold: Tensor | None = None

    def train(self) -> Clock:
        """Train, print progress about four times a second, and return the clock. Raises `Diverged`."""
        batches = self.data.batches(ROWS, self.seed, DEVICE)
        smooth, shown = 0.0, 0.0
        print("phase: training", flush=True)
        clock = Clock()
        began = time.monotonic()
        while not clock.over:
            if clock.steps == SLACK_STEPS:
                gc.collect()
                gc.freeze()  # or Python would search all that exists by now for garbage, again and again
                if self.model.memory is not None:
                    self._count(self.model.memory)  # not earlier: it is training, so its time must count
            value = self._step(next(batches), clock)
            if not math.isfinite(value):
                raise Diverged(f"loss is {value} at step {clock.steps}")
            clock.tick()
            smooth += (value - smooth) * max(0.05, 1 / clock.steps)
            now = time.monotonic()
            if now - shown > 0.25 or clock.over:
                shown = now
                self._show(clock, smooth, (now - began) / clock.steps)
        self.model.zero_grad(set_to_none=True)
        return clock

    def _count(self, memory: Memory) -> None:
        """Give the memory the counts of the training text, and keep the fold of each of its tokens."""
        text = self.data.streams["train"]
        self.model.zero_grad(set_to_none=True)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()  # counting needs room of its own
        stream = torch.from_numpy(text[:COUNT_TOKENS].astype("int16")).to(DEVICE).long()
        fold = folds(stream, self.data.bos, COUNT_FOLDS, self.seed)
        memory.count(stream, fold)
        # Text that was not counted is like text of a fold that does not exist: nothing is left out for it.
        self.fold = torch.full((len(text),), COUNT_FOLDS, dtype=torch.int8, device=DEVICE)
        self.fold[: len(fold)] = fold

    def _step(self, batch: Batch, clock: Clock) -> float:
        """Take one optimizer step and return its mean loss in nats.

        If memory runs out, it tries again with half as many rows a pass, down to one. If compilation fails,
        it trains without. Both happen outside of `except`, where nothing of the failed try is alive any more.
        """
        while True:
            failed = ""
            try:
                value = self._gradients(batch)
                self.optimizer.step(learning_rate(clock.steps, clock.fraction), clock.fraction)
                return value
            except torch.OutOfMemoryError:
                if self.rows == 1:
                    raise
            except Exception as error:  # Triton, Inductor, gcc and the driver all raise their own
                if not self.compiled:
                    raise
                failed = f"{type(error).__name__}: {error}".splitlines()[0]
            self.model.zero_grad(set_to_none=True)
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
            if failed:
                self.compiled = False
                self.model.__dict__.pop("dense", None)
                self.optimizer.muon = muon
                print(f"compilation failed, training is slower without it ({failed[:300]})", flush=True)
            else:
                self.rows = max(1, self.rows // 2)
                print(f"out of memory: trying again with {self.rows} rows at once", flush=True)

    def _gradients(self, batch: Batch) -> float:
        """Compute the gradients of one step and return its mean loss in nats.

        A pass takes `self.rows` rows, and the gradients of the passes add up.
        """
        self.model.zero_grad(set_to_none=True)
        total = torch.zeros((), device=DEVICE)
        for i in range(0, ROWS, self.rows):
            inputs, targets, places = (part[i : i + self.rows] for part in batch)
            fold = None
            if self.fold is not None:
                fold = self.fold[places[:, None] + torch.arange(inputs.size(1), device=DEVICE)].long()
            # What only training shall add to the loss is added here, and not to what the judge asks for.
            loss = -self.model.log_probabilities(inputs, targets, fold).mean() * (len(inputs) / ROWS)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return float(total)

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
        import sizes

        return sizes.describe(sys.modules[__name__])
    seed = int(os.environ.get("AUTORESEARCH_SEED", "1337"))
    torch.manual_seed(seed)
    data = load()
    with DEVICE:  # weights are made where they are needed: on the CPU, those of a large model take 20 s
        model = GPT(data.vocab_size, data.sequence, data.bos)
    parameters = sum(p.numel() for p in model.parameters())
    trainer = Trainer(model, data, seed)
    print(
        f"device: {DEVICE.type} | attention: {ATTENTION} | data: {data.identity} "
        f"| {parameters / 1e6:.2f}M parameters | {trainer.rows} of {ROWS} rows at once"
    )
    clock = trainer.train()
    del trainer  # its memory is needed for the evaluation
    print("phase: evaluating", flush=True)
    if model.memory is not None:
        model.memory.merge_folds()
    model.ngrams.bfloat16()  # half the file; on a GPU their sum is rounded to bf16 anyway
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
