"""The assembly: against its equations, its parameter count, its start, and what it lets be observed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional as F

from pgolf.data.loader import document_starts
from pgolf.model.attention import Attention
from pgolf.model.gpt import GptConfig, assemble
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.residual import Residual
from pgolf.model.rope import Rope
from pgolf.model.softcap import Softcap, softcap
from pgolf.model.u_net import UNet
from pgolf.recipes import naive_baseline
from tests.model.twin import row_logits
from tests.nets import network, small, stream

CONFIGS = st.builds(
    small,
    layers=st.integers(1, 5),
    attention=st.sampled_from([Attention(heads=4, kv_heads=k) for k in (1, 2, 4)]),
    rope=st.sampled_from([Rope(dims=2, base=50.0), Rope(dims=4)]),
    mlp=st.sampled_from([Mlp(mult=1.5, negative_slope=0.5), Mlp()]),
    residual=st.builds(Residual, mix=st.booleans(), scales=st.booleans()),
    u_net=st.sampled_from([UNet(), None]),
    ln_scale=st.sampled_from([LnScale(), None]),
    softcap=st.sampled_from([Softcap(cap=8.0), None]),
)


@settings(max_examples=15, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 2**31 - 1), documents=st.integers(0, 4))
def test_the_packed_forward_is_the_equations_of_each_document_alone(config, seed, documents):
    built, tokens = network(config, seed), stream(seed, 9, documents)
    with torch.no_grad():
        got = built(tokens, document_starts(tokens))[0].double().numpy()
    expected = row_logits(built, config, tokens[0].tolist())
    assert np.abs(got - expected).max() <= 2e-4 * max(np.abs(expected).max(), 1.0)


def test_the_baseline_has_the_published_number_of_parameters():
    """Written out: tied table, per block Q K V O and the MLP, control vectors, skips."""
    v, d, layers, heads, kv_dim, hidden = 1024, 512, 9, 8, 4 * 64, 1024
    block = 2 * d * d + 2 * d * kv_dim + 2 * d * hidden + (d + d + 2 * d + heads)
    expected = v * d + layers * block + (layers // 2) * d
    with torch.device("meta"):
        assert naive_baseline().model.build(v).params == expected == 17_059_912


@pytest.mark.parametrize("vocab_size", [64, 1024])
def test_an_untrained_network_knows_nothing(vocab_size):
    built = small(width=32, layers=4).build(vocab_size).reset(seed=5)
    tokens = torch.randint(2, vocab_size, (4, 65), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = built(tokens[:, :-1], document_starts(tokens[:, :-1]))
    loss = float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))
    assert loss == pytest.approx(math.log(vocab_size), abs=0.05)


def test_reset_is_the_seed_and_nothing_else():
    first, second, other = (small().build(32).reset(seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_every_parameter_is_used():
    """None is dead: each gets a gradient from one batch."""
    config = small(layers=5, ln_scale=LnScale())
    built, tokens = network(config), stream(3, 16, 2)
    F.cross_entropy(built(tokens, document_starts(tokens))[0], tokens[0].roll(-1)).backward()
    for name, p in built.named_parameters():
        assert p.grad is not None, name
        assert p.grad.any(), name


def test_what_is_observed_reproduces_every_matrix_product():
    built, tokens = network(), stream(1, 8, 2)
    seen, made = {}, {}
    hooks = [
        m.register_forward_hook(lambda _, __, out, n=n: made.__setitem__(f"{n}.weight", out))
        for n, m in built.named_modules()
        if type(m).__name__ == "Linear"
    ]
    with torch.no_grad(), built.observed(lambda name, x: seen.__setitem__(name, x)):
        logits = built(tokens, document_starts(tokens))
    weights = dict(built.named_parameters())
    matrices = {n for n, role in built.roles.items() if role.is_matrix}
    assert seen.keys() == matrices
    for name, out in made.items():
        assert torch.allclose(F.linear(seen[name], weights[name]), out)
    table = softcap(F.linear(seen["embedding.weight"], weights["embedding.weight"]), Softcap().cap)
    assert torch.allclose(table, logits, atol=1e-5)
    [h.remove() for h in hooks]
    seen.clear()
    with torch.no_grad():
        built(tokens, document_starts(tokens))
    assert not seen, "nobody is watching any more"


def test_assembled_from_its_plain_config_and_weights_it_says_the_same():
    config, tokens = small(ln_scale=LnScale()), stream(2, 8, 1)
    built = network(config)
    again = assemble(config.plain(), built.vocab_size, built.state_dict(), "cpu")
    with torch.no_grad():
        assert torch.equal(built(tokens, tokens == 1), again(tokens, tokens == 1))


def test_rope_wider_than_a_head_is_refused():
    with pytest.raises(ValidationError, match=r"rope\.dims is at most the head dimension"):
        GptConfig(width=32, attention=Attention(heads=4, kv_heads=2), rope=Rope(dims=16))
