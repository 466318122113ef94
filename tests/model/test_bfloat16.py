"""Activations in bfloat16, as on a GPU: no part widens the stream again, and the network says the same.

One float32 factor that is not cast to the stream's dtype makes everything after it float32: nothing fails, and
a GPU takes twice the time and memory. So every module's output is looked at, in one network for each technique
and in those that have everything on.
"""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pgolf.data.batch import Batch
from pgolf.data.starts import document_starts
from pgolf.model.asymmetric_softcap import AsymmetricSoftcapModule
from pgolf.model.attention import Attention
from pgolf.model.bigram_hash import BigramHash
from pgolf.model.cross_carry import CrossCarry
from pgolf.model.dense_gate import DenseGate
from pgolf.model.elementwise_gate import ElementwiseGate
from pgolf.model.embedding import Embedding
from pgolf.model.engram import Engram
from pgolf.model.factored_embedding import FactoredEmbedding
from pgolf.model.gated_xsa import GatedXsa
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.model.headwise_gate import HeadwiseGate
from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.ntk import Ntk
from pgolf.model.output_gate import OutputGate
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.recur_alpha import RecurAlpha
from pgolf.model.recurrence import Recurrence
from pgolf.model.rope import Rope
from pgolf.model.skip_gate import SkipGate
from pgolf.model.smear_blend import SmearBlend
from pgolf.model.smear_gate import SmearGate
from pgolf.model.sparse_gate import SparseGate
from pgolf.model.two_lane import TwoLane
from pgolf.model.u_net import UNet
from pgolf.model.value_embedding import ValueEmbedding
from pgolf.model.value_residual import ValueResidual
from pgolf.model.xsa import Xsa
from pgolf.model.yarn import Yarn
from pgolf.train.late_qat import Noisy, Quantization, SoftRound, StraightThrough
from pgolf.train.objective import loss_nats
from tests.nets import EVERYTHING, VOCAB, everything, small, stream

LOGITS = 0.05  # of their root mean square; float32 has 2^-24 for a rounding, bfloat16 2^-9


def attending(**changes: object) -> Attention:
    return Attention.model_validate({"heads": 4, "kv_heads": 2} | changes)


def band(**changes: object) -> Recurrence:
    return Recurrence.model_validate({"first": 1, "last": 1, "passes": 3} | changes)


CONFIGS: dict[str, GptConfig] = {name: everything(name) for name in EVERYTHING} | {
    "bare": small(u_net=None, softcap=None),
    "xsa": small(attention=attending(xsa=Xsa())),
    "gated_xsa": small(attention=attending(xsa=GatedXsa(begin_excluded=True))),
    "sparse_gate": small(attention=attending(gate=SparseGate())),
    "dense_gate": small(attention=attending(gate=DenseGate(bias=1.0))),
    "output_gate": small(attention=attending(gate=OutputGate())),
    "output_gate_of_q": small(attention=attending(gate=OutputGate(source="query"))),
    "headwise_gate": small(attention=attending(gate=HeadwiseGate())),
    "elementwise_gate": small(attention=attending(gate=ElementwiseGate())),
    **{
        f"value_residual_{form}": small(attention=attending(value_residual=ValueResidual(form=form)))
        for form in ("sigmoid", "additive", "convex")
    },
    "value_embedding": small(value_embedding=ValueEmbedding(rank=4, layers=(1, 2))),
    "ntk": small(rope=Rope(dims=4, scaling=Ntk())),
    "yarn": small(rope=Rope(dims=4, scaling=Yarn())),
    "ln_scale": small(ln_scale=LnScale()),
    "leaky": small(mlp=Mlp(negative_slope=0.5)),
    "factored_embedding": small(embedding=Embedding(factored=FactoredEmbedding(rank=8))),
    "skip_gate": small(u_net=UNet(gate=SkipGate())),
    "smear_gate": small(smear=SmearGate()),
    "smear_blend": small(smear=SmearBlend()),
    "bigram_hash": small(ngrams=BigramHash(buckets=61, rank=4, trigram=True)),
    "engram": small(ngrams=Engram(buckets=61, rank=4)),
    "sharing": small(sharing=LayerSharing(stored=1, lora_rank=2)),
    "parallel_residual": small(parallel=ParallelResidual(from_layer=1)),
    **{
        f"two_lane_{merge}": small(parallel=TwoLane(from_layer=1, merge=merge))
        for merge in ("mean", "attention", "mlp", "learned")
    },
    "recurrence": small(recurrence=band()),
    "recur_alpha": small(recurrence=band(carry=RecurAlpha(initial=0.3))),
    "cross_carry": small(recurrence=band(carry=CrossCarry())),
    "cross_carry_constant": small(
        recurrence=band(carry=CrossCarry(beta=(1.5,), alpha=((0.2,),), learned=False))
    ),
}


def built(config: GptConfig, dtype: torch.dtype) -> Gpt:
    """A little away from where training begins: every branch, gate and table says something."""
    network, drawn = config.build(VOCAB).reset(3), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=drawn))
    network.dtype = dtype
    return network


def tensors(made: object) -> Iterator[Tensor]:
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, dict):
        yield from (t for value in made.values() for t in tensors(value))
    elif isinstance(made, tuple | list):
        yield from (t for value in made for t in tensors(value))


def watched(network: Gpt) -> dict[str, set[torch.dtype]]:
    """The dtypes that every module gives out, as it runs."""
    seen: dict[str, set[torch.dtype]] = {}
    for name, module in network.named_modules():
        if module is network or isinstance(module, AsymmetricSoftcapModule):  # logits are float32
            continue
        module.register_forward_hook(
            lambda _, __, made, name=name: seen.setdefault(name, set()).update(t.dtype for t in tensors(made))
        )
    return seen


@pytest.mark.parametrize("name", CONFIGS)
def test_every_module_keeps_the_streams_dtype(name):
    network, tokens = built(CONFIGS[name], torch.bfloat16), stream(0, 24, 3)
    seen = watched(network)
    with torch.no_grad():
        logits = network(tokens, document_starts(tokens))
    assert len(seen) > len(network.blocks)
    assert {n: dtypes for n, dtypes in seen.items() if dtypes != {torch.bfloat16}} == {}
    assert logits.dtype == torch.float32, "the softcap and the loss are not rounded"


@pytest.mark.parametrize("name", CONFIGS)
def test_it_says_what_float32_says_and_learns_what_float32_learns(name):
    """Logits to a twentieth of their size; gradients, which stay float32, in the same direction."""
    tokens, made = stream(1, 25, 3), []
    batch = Batch(tokens[:, :-1], document_starts(tokens[:, :-1]), tokens[:, 1:])
    for dtype in (torch.float32, torch.bfloat16):
        network = built(CONFIGS[name], dtype)
        loss_nats(network, batch).backward()
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        assert {g.dtype for g in grads} == {torch.float32}
        with torch.no_grad():
            logits = network(batch.tokens, batch.starts)
        made.append((logits, torch.cat([g.flatten() for g in grads])))
    (wide, exact), (narrow, rounded) = made
    assert not torch.equal(wide, narrow), "or nothing was rounded"
    assert (wide - narrow).square().mean().sqrt() < LOGITS * wide.square().mean().sqrt()
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99


@pytest.mark.parametrize("section", [StraightThrough(), SoftRound(), Noisy()])
def test_a_rounded_matrix_is_applied_in_the_streams_dtype(section):
    network, tokens = built(small(), torch.bfloat16), stream(0, 24, 3)
    Quantization(section, network).set(1.0, 5)
    seen = watched(network)
    with torch.no_grad():
        logits = network(tokens, document_starts(tokens))
    assert {dtype for dtypes in seen.values() for dtype in dtypes} == {torch.bfloat16}
    assert math.isfinite(float(logits.sum()))
