"""The same network and the same updates in one minimal plain-PyTorch script: what pgolf's training step is
measured against. Classic Muon in a loop, torch's AdamW, masked scaled_dot_product_attention, nothing else.

It is also checked to be the same: both loops begin with equal weights, see equal batches and must report the
same losses.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pgolf.data.batch import Batch
from pgolf.run import RunConfig


class PlainBlock(nn.Module):
    def __init__(self, d: int, heads: int, kv: int, hidden: int) -> None:
        super().__init__()
        dim = d // heads
        self.heads, self.kv, self.dim = heads, kv, dim
        self.q, self.k, self.v, self.o = (
            nn.Parameter(torch.empty(*s)) for s in ((d, d), (kv * dim, d), (kv * dim, d), (d, d))
        )
        self.up, self.down = nn.Parameter(torch.empty(hidden, d)), nn.Parameter(torch.empty(d, hidden))
        self.gain = nn.Parameter(torch.empty(heads))
        self.mix, self.attn_scale, self.mlp_scale = (
            nn.Parameter(torch.empty(*s)) for s in ((2, d), (d,), (d,))
        )

    def forward(self, x: Tensor, x0: Tensor, mask: Tensor, cos: Tensor, sin: Tensor, slope: float) -> Tensor:
        b, t, d = x.shape
        u = self.mix[0] * x + self.mix[1] * x0
        y = F.rms_norm(u, (d,), eps=1.1920929e-07)
        q = (y @ self.q.T).view(b, t, self.heads, self.dim).transpose(1, 2)
        k = (y @ self.k.T).view(b, t, self.kv, self.dim).transpose(1, 2)
        v = (y @ self.v.T).view(b, t, self.kv, self.dim).transpose(1, 2)
        q, k = (rotate(F.rms_norm(z, (self.dim,), eps=1.1920929e-07), cos, sin) for z in (q, k))
        q = q * self.gain.view(1, -1, 1, 1)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        z = u + self.attn_scale * (a.transpose(1, 2).reshape(b, t, d) @ self.o.T)
        h = F.leaky_relu(F.rms_norm(z, (d,), eps=1.1920929e-07) @ self.up.T, slope).square()
        return z + self.mlp_scale * (h @ self.down.T)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    x1, x2, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([x1 * cos + x2 * sin, x2 * cos - x1 * sin, rest], dim=-1)


class PlainGpt(nn.Module):
    """What a `laptop_late` network computes, with the weights of one."""

    def __init__(self, config: RunConfig, vocab_size: int) -> None:
        super().__init__()
        m = config.model
        self.m = m
        self.table = nn.Parameter(torch.empty(vocab_size, m.width))
        self.blocks = nn.ModuleList(
            PlainBlock(m.width, m.attention.heads, m.attention.kv_heads, int(m.mlp.mult * m.width))
            for _ in range(m.layers)
        )
        self.skips = nn.Parameter(torch.empty(m.layers // 2, m.width))

    def forward(self, tokens: Tensor, starts: Tensor) -> Tensor:
        document = starts.cumsum(1)
        t = tokens.shape[1]
        mask = (document[:, :, None] == document[:, None]) & torch.ones(t, t, dtype=torch.bool).tril()
        half = self.m.rope.dims // 2
        angle = torch.arange(t).outer(self.m.rope.base ** (-torch.arange(half) / half))
        cos, sin = angle.cos(), angle.sin()
        x = x0 = F.rms_norm(F.embedding(tokens, self.table), (self.m.width,), eps=1.1920929e-07)
        stack: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i >= len(self.skips) and stack:
                x = x + self.skips[i - len(self.skips)] * stack.pop()
            x = block(x, x0, mask[:, None], cos, sin, self.m.mlp.negative_slope)
            if i < len(self.skips):
                stack.append(x)
        logits = F.rms_norm(x, (self.m.width,), eps=1.1920929e-07) @ self.table.T
        return 30 * torch.tanh(logits / 30)


def take_weights(plain: PlainGpt, weights: dict[str, Tensor]) -> None:
    """Set a plain network's weights from pgolf's by name."""
    with torch.no_grad():
        plain.table.copy_(weights["embedding.weight"])
        plain.skips.copy_(weights["u_net.w"])
        for i, block in enumerate(plain.blocks):
            at = f"blocks.{i}."
            for name in "qkvo":
                getattr(block, name).copy_(weights[f"{at}attention.{name}.weight"])
            for name in ("up", "down"):
                getattr(block, name).copy_(weights[f"{at}mlp.{name}.weight"])
            block.gain.copy_(weights[f"{at}attention.gain"])
            for name in ("mix", "attn_scale", "mlp_scale"):
                getattr(block, name).copy_(weights[f"{at}residual.{name}"])


def train_plain(plain: PlainGpt, config: RunConfig, batches: Iterator[Batch], steps: int) -> list[float]:
    """Losses of `steps` steps at the peak learning rate, without averaging or clipping."""
    muon, adam = config.optim.muon, config.optim.adam
    matrices = [
        p for n, p in plain.named_parameters() if n.split(".")[-1] in ("q", "k", "v", "o", "up", "down")
    ]
    others = [p for n, p in plain.named_parameters() if p.ndim != 2 or n.endswith(("mix", "skips"))]
    optimizer = torch.optim.AdamW(
        [{"params": [plain.table], "lr": adam.embedding_lr}, {"params": others, "lr": adam.control_lr}],
        betas=(adam.beta1, adam.beta2), eps=adam.eps, weight_decay=0.0,
    )  # fmt: skip
    momenta = [torch.zeros_like(p) for p in matrices]
    losses = []
    for _ in range(steps):
        batch = next(batches)
        loss = F.cross_entropy(plain(batch.tokens, batch.starts).flatten(0, 1), batch.targets.flatten())
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        with torch.no_grad():
            for p, momentum in zip(matrices, momenta, strict=True):
                assert p.grad is not None
                momentum.mul_(muon.momentum).add_(p.grad)
                update = orthogonal(p.grad + muon.momentum * momentum, muon.newton_schulz_steps)
                p.sub_(update, alpha=muon.lr * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))
        plain.zero_grad()
    return losses


def orthogonal(g: Tensor, steps: int) -> Tensor:
    x = g / (g.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x
