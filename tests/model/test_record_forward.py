"""The forward pass of PR 1855, written out literally in float64, against the assembled network.

The transcription below knows nothing of pgolf's modules: it takes a dictionary of weights by the names of
the equations and follows the ten steps one by one, position by position where a position's past matters.
"""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pgolf.model.attention import Attention
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.recurrence import Recurrence
from pgolf.model.rope import Rope
from pgolf.model.skip_gate import SkipGate
from pgolf.model.smear_gate import SmearGate
from pgolf.model.sparse_gate import SparseGate
from pgolf.model.two_lane import TwoLane
from pgolf.model.u_net import UNet
from pgolf.model.xsa import Xsa
from tests.nets import randomized

VOCAB, D, H, HKV, HEAD, ROT, HIDDEN = 64, 128, 8, 4, 16, 4, 256
BOS = 1
WINDOW = 12

CONFIG = GptConfig(
    layers=11,
    width=D,
    attention=Attention(
        heads=H,
        kv_heads=HKV,
        qk_gain=5.0,
        xsa=Xsa(last_layers=11),
        gate=SparseGate(window=WINDOW, scale=0.5),
    ),
    rope=Rope(dims=ROT),
    mlp=Mlp(mult=2.0, negative_slope=0.5),
    u_net=UNet(gate=SkipGate()),
    ln_scale=LnScale(),
    smear=SmearGate(window=WINDOW),
    recurrence=Recurrence(first=3, last=5, passes=3, from_fraction=0.35),
    parallel=TwoLane(from_layer=8),
)
ENCODER = {False: [0, 1, 2, 3, 4], True: [0, 1, 2, 3, 4, 5, 3, 4]}
DECODER = {False: [5, 6, 7, 8, 9, 10], True: [5, 3, 4, 5, 6, 7, 8, 9, 10]}


def n(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1.1920929e-07).sqrt()


def rope(x: Tensor, t: int) -> Tensor:
    """One head's vector at position t."""
    out = x.clone()
    for i in range(ROT // 2):
        theta = t * 10_000.0 ** (-2 * i / ROT)
        x1, x2 = x[i], x[ROT // 2 + i]
        out[i] = x1 * math.cos(theta) + x2 * math.sin(theta)
        out[ROT // 2 + i] = -x1 * math.sin(theta) + x2 * math.cos(theta)
    return out


def attention(w: dict[str, Tensor], i: int, y: Tensor, document: list[int]) -> Tensor:
    time = len(y)
    q = (y @ w[f"Wq{i}"].T).view(time, H, HEAD)
    k = (y @ w[f"Wk{i}"].T).view(time, HKV, HEAD)
    v = (y @ w[f"Wv{i}"].T).view(time, HKV, HEAD)
    q = torch.stack(
        [torch.stack([rope(n(q[t, h]), t) * w[f"g{i}"][h] for h in range(H)]) for t in range(time)]
    )
    k = torch.stack([torch.stack([rope(n(k[t, h]), t) for h in range(HKV)]) for t in range(time)])
    out = torch.zeros(time, H, HEAD, dtype=torch.float64)
    for t in range(time):
        past = [s for s in range(t + 1) if document[s] == document[t]]
        for h in range(H):
            kv = h // (H // HKV)
            p = torch.softmax(torch.stack([q[t, h] @ k[s, kv] for s in past]) / math.sqrt(HEAD), dim=0)
            o = sum(p[j] * v[s, kv] for j, s in enumerate(past))
            unit = v[t, kv] / v[t, kv].norm()
            o = o - (o @ unit) * unit
            gate = torch.sigmoid(0.5 * (w[f"Wg{i}"][h] @ y[t, :WINDOW]))
            out[t, h] = gate * o
    return out.reshape(time, D) @ w[f"Wo{i}"].T


def mlp(w: dict[str, Tensor], i: int, y: Tensor) -> Tensor:
    up = y @ w[f"Wup{i}"].T
    return torch.where(up > 0, up, 0.5 * up).pow(2) @ w[f"Wdown{i}"].T


def forward(w: dict[str, Tensor], tokens: list[int], looping: bool) -> Tensor:
    time = len(tokens)
    document = torch.tensor([t == BOS for t in tokens]).cumsum(0).tolist()
    e = w["E"][tokens]
    smeared = e.clone()
    for i in range(1, time):
        if tokens[i] != BOS:
            smeared[i] = e[i] + w["lam"] * torch.sigmoid(w["w"] @ e[i, :WINDOW]) * e[i - 1]
    x = x0 = n(smeared)
    encoder, decoder = ENCODER[looping], DECODER[looping]
    skips: list[Tensor] = []

    def block(i: int, x: Tensor) -> Tensor:
        c = 1 / math.sqrt(i + 1)
        u = w[f"m0_{i}"] * x + w[f"m1_{i}"] * x0
        z = u + w[f"alpha{i}"] * attention(w, i, n(u) * c, document)
        return z + w[f"mu{i}"] * mlp(w, i, n(z) * c)

    for i in encoder:
        x = block(i, x)
        skips.append(x)
    lane0 = lane1 = None
    for j, i in enumerate(decoder):
        if i >= 8 and lane0 is None:
            lane0 = lane1 = x
        if j < 8 and skips:
            g = torch.sigmoid(w["gate"][j])
            combined = (1 - g) * (w["wskip"][j] * skips.pop())
            if lane0 is None:
                x = g * x + combined
            else:
                lane0 = g * lane0 + combined
        if i < 8:
            x = block(i, x)
            continue
        c = 1 / math.sqrt(i + 1)
        a = w[f"alpha{i}"] * attention(w, i, n(w[f"m0_{i}"] * lane0 + w[f"m1_{i}"] * x0) * c, document)
        b = w[f"mu{i}"] * mlp(w, i, n(lane1) * c)
        rho, p = w["rho"][i], w["p"][i]
        lane0, lane1 = (
            rho[0] * lane0 + p[0, 0] * a + p[1, 0] * b,
            rho[1] * lane1 + p[0, 1] * a + p[1, 1] * b,
        )
    x = (lane0 + lane1) / 2
    z = n(x) @ w["E"].T
    return 30 * torch.tanh(z / 30)


def weights_of(network: Gpt) -> dict[str, Tensor]:
    """pgolf's names to the equations'."""
    p = {name: value.detach().double() for name, value in network.named_parameters()}
    w = {"E": p["embedding.weight"], "lam": p["smear.lam"], "w": p["smear.w"], "wskip": p["u_net.w"],
         "gate": p["u_net.gate.gate"], "rho": p["two_lane.rho"], "p": p["two_lane.p"]}  # fmt: skip
    for i in range(11):
        a, m, r = (f"blocks.{i}.{part}." for part in ("attention", "mlp", "residual"))
        w |= {f"W{x}{i}": p[f"{a}{x}.weight"] for x in "qkvo"}
        w |= {f"Wup{i}": p[f"{m}up.weight"], f"Wdown{i}": p[f"{m}down.weight"]}
        w |= {f"g{i}": p[f"{a}gain"], f"Wg{i}": p[f"{a}gate.w"], f"m0_{i}": p[f"{r}mix"][0]}
        w |= {f"m1_{i}": p[f"{r}mix"][1], f"alpha{i}": p[f"{r}attn_scale"], f"mu{i}": p[f"{r}mlp_scale"]}
    assert sum(t.numel() for name, t in w.items()) == network.params
    return w


def drawn(seed: int) -> Gpt:
    """Every weight non-zero, at the sizes of a trained network."""
    network = randomized(CONFIG.build(VOCAB), seed, std=0.5)
    assert isinstance(network, Gpt)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if network.roles[name].is_matrix and name != "embedding.weight":
                p.mul_(2 / math.sqrt(p.shape[1]))
            elif name.endswith(("mix", "scale", "rho", "u_net.w", "gain")) or name == "two_lane.p":
                p.add_(1.0)
    return network


@pytest.mark.parametrize("looping", [False, True])
def test_the_network_is_the_published_forward_pass(looping):
    network = drawn(seed=int(looping))
    network.set_progress(1.0 if looping else 0.0)
    tokens = torch.randint(2, VOCAB, (1, 18), generator=torch.Generator().manual_seed(5))
    tokens[0, [0, 7]] = BOS
    w = weights_of(network)
    expected = forward(w, tokens[0].tolist(), looping)
    network = network.double()
    network.dtype = torch.float64
    with torch.no_grad():
        hidden_in_double = network(tokens, tokens == BOS)[0]
    assert expected.abs().max() > 1, "logits that say something"
    assert (hidden_in_double.double() - expected).abs().max() < 1e-5


def test_in_float32_the_loss_is_the_same():
    network = drawn(seed=3)
    tokens = torch.randint(2, VOCAB, (1, 18), generator=torch.Generator().manual_seed(6))
    tokens[0, [0, 7]] = BOS
    targets = tokens[0].roll(-1)
    exact = F.cross_entropy(forward(weights_of(network), tokens[0].tolist(), True), targets)
    with torch.no_grad():
        loss = F.cross_entropy(network(tokens, tokens == BOS)[0], targets)
    assert float(loss) == pytest.approx(float(exact), rel=1e-5)
