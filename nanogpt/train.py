"""The one file agents edit: a small GPT, its optimizer, and 300 seconds to train it.

    python nanogpt/train.py

Read it top to bottom: hyperparameters, model, optimizer, training. Data, clock and evaluation are in
prepare.py beside it and stay as they are. Shapes in comments: B rows, T tokens, D width, H heads, V tokens
of vocabulary.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time

# Which copy of prepare.py: the one beside this file, as Python puts a script's folder first on its path.
from prepare import SEQUENCE, VOCAB_SIZE, BadData, Cheating, Clock, Data, evaluate, load

print("phase: starting", flush=True)
STARTED = time.time()

import torch  # noqa: E402 - the line above comes first, so that a screen shows life within milliseconds
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

# --- hyperparameters ---
DEPTH = 3  # transformer blocks [1, 8]
WIDTH = 128  # residual width D, a multiple of HEAD_DIM [64, 512]
HEAD_DIM = 32  # width of one attention head [16, 64]
MLP_RATIO = 4  # hidden width of the MLP over D [2, 8]
ROPE_BASE = 10000.0  # longest rotary wavelength [1000.0, 300000.0]
QK_SCALE = 1.2  # sharpens attention after QK-norm [0.8, 2.0]
SOFTCAP = 15.0  # logits stay within +- this [8.0, 60.0]
NGRAM_ROWS = 131072  # rows of each hashed n-gram table [16384, 524288]
ROWS = 8  # rows of SEQUENCE tokens a step [4, 64]
MATRIX_LR = 0.02  # Muon, all matrices of the blocks [0.004, 0.1]
EMBED_LR = 0.3  # AdamW, token embedding [0.03, 1.5]
HEAD_LR = 0.006  # AdamW, output head [0.001, 0.03]
SCALAR_LR = 0.02  # AdamW, residual and x0 weights [0.002, 0.2]
NGRAM_LR = 0.1  # row-wise Adagrad, n-gram tables [0.01, 1.0]
MOMENTUM = 0.95  # Muon's Nesterov momentum [0.8, 0.98]
WEIGHT_DECAY = 0.1  # cautious, on matrices, falls to 0 with the budget [0.01, 0.5]
WARMDOWN = 0.6  # share of the budget over which the learning rates fall [0.2, 1.0]
FINAL_LR = 0.03  # learning rate at the end, of its peak [0.005, 0.2]
# --- end ---

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
AMP = DEVICE.type == "cuda"  # bf16 there; on AVX2 CPUs bf16 products are 60 times slower than fp32


def norm(x: Tensor) -> Tensor:
    """RMS norm without weights (nanochat): the next matrix can learn any scale."""
    return F.rms_norm(x, (x.size(-1),))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of (B, T, H, d): pairs (i, i + d/2) turn by the position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Block(nn.Module):
    """Attention and MLP, each added to the residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, MLP_RATIO * WIDTH, bias=False)
        self.down = nn.Linear(MLP_RATIO * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(norm(x)).view(B, T, 3, WIDTH // HEAD_DIM, HEAD_DIM).unbind(2)  # each (B, T, H, d)
        # QK-norm (Dehghani et al. 2023): bounded attention logits, so high learning rates stay stable.
        q, k = norm(rotate(q, cos, sin)) * QK_SCALE, norm(rotate(k, cos, sin)) * QK_SCALE
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        x = x + self.out(y.transpose(1, 2).reshape(B, T, WIDTH))
        # ReLU^2 (So et al. 2021): as good as GELU here and cheaper.
        x = x + self.down(F.relu(self.up(norm(x))).square())
        return x


class GPT(nn.Module):
    """Tokens (B, T) to logits (B, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, WIDTH)
        # Hashed bigram and trigram embeddings: what an n-gram model knows, for one look-up a token. The best
        # single change in the public 300 s logs (-0.0275 val_bpb, LDM), and worth more in a small model.
        self.ngrams = nn.ModuleList(nn.Embedding(NGRAM_ROWS, WIDTH, sparse=True) for _ in range(2))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        # Each block sees the residual stream and the embedding again, mixed by learned weights (nanochat).
        self.residual = nn.Parameter(torch.ones(DEPTH))
        self.again = nn.Parameter(torch.full((DEPTH,), 0.1))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        nn.init.normal_(self.embed.weight, std=1.0)
        nn.init.zeros_(self.head.weight)  # the first loss is that of a uniform guess
        for table in self.ngrams:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        for block in self.blocks:
            bound = math.sqrt(3 / WIDTH)
            for name, weight in block.named_parameters():
                if name.startswith(("out", "down")):
                    nn.init.zeros_(weight)  # a block starts as the identity
                else:
                    nn.init.uniform_(weight, -bound, bound)
        angles = torch.outer(torch.arange(SEQUENCE), ROPE_BASE ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM))
        self.register_buffer("cos", angles.cos()[:, None, :], persistent=False)  # (T, 1, d/2)
        self.register_buffer("sin", angles.sin()[:, None, :], persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        previous = F.pad(tokens, (2, 0))  # (B, T + 2): the row's past, zeros before its start
        hashed = tokens * 0x9E3779B1
        for distance, table in enumerate(self.ngrams, 1):
            hashed = hashed * 31 + (previous[:, 2 - distance : -distance] + 1) * 0x85EBCA6B * distance
            x = x + table(((hashed ^ (hashed >> 15)) & 0x7FFFFFFF) % NGRAM_ROWS)
        x = first = norm(x)
        for i, block in enumerate(self.blocks):
            x = block(self.residual[i] * x + self.again[i] * first, self.cos, self.sin)
        logits = self.head(norm(x)).float()
        capped: Tensor = SOFTCAP * torch.tanh(logits / SOFTCAP)  # softcap (Gemma 2): no logit runs away
        return capped


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
    for a, b, c in POLAR:
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    result: Tensor = x.mT if g.size(-2) > g.size(-1) else x
    return result


class MuonAdamW:
    """Muon for the blocks' matrices, AdamW for embedding, head and scalars, Adagrad for n-gram tables.

    A plain class: importing `torch.optim` costs a second of every run's overhead.
    """

    def __init__(self, model: GPT) -> None:
        matrices = list(model.blocks.parameters())
        shapes = sorted({tuple(p.shape) for p in matrices})
        self.stacks = [[p for p in matrices if tuple(p.shape) == shape] for shape in shapes]
        self.momenta = [torch.zeros(len(s), *s[0].shape, device=DEVICE) for s in self.stacks]
        self.variances = [torch.zeros(len(s), s[0].size(0), 1, device=DEVICE) for s in self.stacks]
        self.adam: list[tuple[Tensor, float]] = [
            (model.embed.weight, EMBED_LR),
            (model.head.weight, HEAD_LR),
            (model.residual, SCALAR_LR),
            (model.again, SCALAR_LR),
        ]
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in self.adam]
        self.tables = [table.weight for table in model.ngrams]
        self.sums = [torch.zeros(NGRAM_ROWS, 1, device=DEVICE) for _ in self.tables]
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
            self._adagrad(table, total, NGRAM_LR * scale)  # type: ignore[arg-type]

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
        m.lerp_(p.grad, 0.2)
        v.lerp_(p.grad.square(), 0.05)
        denominator = (v / (1 - 0.95**self.steps)).sqrt_().add_(1e-10)
        p.addcdiv_(m, denominator, value=-lr / (1 - 0.8**self.steps))

    @staticmethod
    def _adagrad(table: nn.Parameter, total: Tensor, lr: float) -> None:
        """Adagrad (Duchi et al. 2011), one sum a row, on the rows of this batch: rare rows learn fast.

        A dense update of both tables would cost more than the model.
        """
        if table.grad is None:
            return
        grad = table.grad.coalesce()
        rows, values = grad.indices()[0], grad.values()
        total[rows] += values.square().sum(-1, keepdim=True)
        table[rows] -= lr * values * math.sqrt(WIDTH) / total[rows].sqrt().clamp_min(1e-10)


# --- training ---


def learning_rate(done: float) -> float:
    """1, then a straight line down over the last `WARMDOWN` of the budget."""
    left = min(1.0, (1 - done) / WARMDOWN)
    return FINAL_LR + (1 - FINAL_LR) * left


def train(model: GPT, data: Data, seed: int) -> Clock:
    """Steps until the budget is used."""
    optimizer = MuonAdamW(model)
    batches = data.batches(ROWS, seed, DEVICE)
    smooth, shown = 0.0, 0.0
    print("phase: training", flush=True)
    clock = Clock()
    began = time.monotonic()
    while not clock.over:
        inputs, targets = next(batches)
        with torch.autocast("cuda", torch.bfloat16, enabled=AMP):
            logits = model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        scale = learning_rate(clock.fraction)
        optimizer.step(scale, clock.fraction)
        clock.tick()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Cheating(f"loss is {value} at step {clock.steps}")
        smooth += (value - smooth) * max(0.05, 1 / clock.steps)
        now = time.monotonic()
        if now - shown > 0.25 or clock.over:
            shown = now
            seconds = (now - began) / clock.steps
            tokens = ROWS * SEQUENCE
            print(
                f"step {clock.steps:05d} ({100 * clock.fraction:.1f}%) | loss: {smooth:.6f} "
                f"| lrm: {scale:.2f} | dt: {1000 * seconds:.0f}ms | tok/sec: {tokens / seconds:,.0f} "
                f"| epoch: {clock.steps * tokens / len(data.streams['train']):.2f} "
                f"| remaining: {clock.budget_s * (1 - clock.fraction):.0f}s",
                flush=True,
            )
    return clock


def main() -> None:
    seed = int(os.environ.get("AUTORESEARCH_SEED", "1337"))
    torch.manual_seed(seed)
    data = load()
    model = GPT().to(DEVICE)
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"device: {DEVICE.type} | attention: sdpa | data: {data.identity} "
        f"| {parameters / 1e6:.2f}M parameters"
    )
    clock = train(model, data, seed)
    print("phase: evaluating", flush=True)
    val_bpb = evaluate(model.eval(), data, clock)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB; on Linux it counts in KB
    memory = torch.cuda.max_memory_allocated() / 2**20 if AMP else used
    print("---")
    print(f"val_bpb:          {val_bpb:.6f}")
    print(f"training_seconds: {clock.elapsed_s:.1f}")
    print(f"total_seconds:    {time.time() - STARTED:.1f}")
    print(f"peak_vram_mb:     {memory:.1f}")
    print(f"total_tokens_M:   {clock.steps * ROWS * SEQUENCE / 1e6:.3f}")
    print(f"num_steps:        {clock.steps}")
    print(f"num_params_M:     {parameters / 1e6:.3f}")
    print(f"depth:            {DEPTH}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BadData, Cheating) as error:
        sys.exit(str(error))
