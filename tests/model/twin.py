"""The network once more, from its equations: float64, one document at a time, one head at a time.

It knows no masks: a document is cut out and computed alone, with positions counted from its own
beginning. That the packed network agrees is the isolation law and the relativity of RoPE in one.
"""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from pgolf.model.gpt import Gpt, GptConfig

Array = NDArray[np.float64]


def norm(x: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1.1920929e-07)


def rotate(x: Array, dims: int, base: float) -> Array:
    """x [time, dim] of one head; pairs are (i, i + dims / 2)."""
    out = x.copy()
    for t in range(len(x)):
        for i in range(dims // 2):
            angle = t * base ** (-2 * i / dims)
            a, b = x[t, i], x[t, i + dims // 2]
            out[t, i] = a * math.cos(angle) + b * math.sin(angle)
            out[t, i + dims // 2] = b * math.cos(angle) - a * math.sin(angle)
    return out


def attention(y: Array, w: dict[str, Array], at: str, config: GptConfig) -> Array:
    heads, kv = config.attention.heads, config.attention.kv_heads
    dim = config.width // heads
    q, k, v = (y @ w[f"{at}.{n}.weight"].T for n in "qkv")
    outs = []
    for h in range(heads):
        own, shared = slice(h * dim, (h + 1) * dim), h * kv // heads
        theirs = slice(shared * dim, (shared + 1) * dim)
        qh = rotate(norm(q[:, own]), config.rope.dims, config.rope.base) * w[f"{at}.gain"][h]
        kh = rotate(norm(k[:, theirs]), config.rope.dims, config.rope.base)
        rows = []
        for t in range(len(y)):
            score = np.exp((s := kh[: t + 1] @ qh[t] / math.sqrt(dim)) - s.max())
            rows.append(score / score.sum() @ v[: t + 1, theirs])
        outs.append(np.stack(rows))
    return np.concatenate(outs, axis=1) @ w[f"{at}.o.weight"].T


def mlp(y: Array, w: dict[str, Array], at: str, config: GptConfig) -> Array:
    up = y @ w[f"{at}.up.weight"].T
    phi = np.where(up > 0, up, config.mlp.negative_slope * up) ** 2
    return phi @ w[f"{at}.down.weight"].T


def document_logits(network: Gpt, config: GptConfig, tokens: list[int]) -> Array:
    """Logits [time, vocab] of one document."""
    w = {name: p.detach().double().numpy() for name, p in network.named_parameters()}
    x = x0 = norm(w["embedding.weight"][tokens])
    encoders = config.layers // 2 if config.u_net else 0
    kept: list[Array] = []
    for layer in range(config.layers):
        at = f"blocks.{layer}"
        if layer >= encoders and kept:
            x = x + w["u_net.w"][layer - encoders] * kept.pop()
        scale = 1 / math.sqrt(layer + 1) if config.ln_scale else 1.0
        mix = w.get(f"{at}.residual.mix")
        u = x if mix is None else mix[0] * x + mix[1] * x0
        one = np.ones(config.width)
        z = u + w.get(f"{at}.residual.attn_scale", one) * attention(
            norm(u) * scale, w, f"{at}.attention", config
        )
        x = z + w.get(f"{at}.residual.mlp_scale", one) * mlp(norm(z) * scale, w, f"{at}.mlp", config)
        if layer < encoders:
            kept.append(x)
    logits = norm(x) @ w["embedding.weight"].T
    return logits if config.softcap is None else config.softcap.cap * np.tanh(logits / config.softcap.cap)


def row_logits(network: Gpt, config: GptConfig, tokens: list[int], bos: int = 1) -> Array:
    """Logits of a packed row: every document computed alone."""
    begins = [0, *(i for i in range(1, len(tokens)) if tokens[i] == bos), len(tokens)]
    parts = [tokens[a:b] for a, b in itertools.pairwise(begins)]
    return np.concatenate([document_logits(network, config, part) for part in parts])
