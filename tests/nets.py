"""Small networks with every parameter random: at its zero initialization a leak would be invisible."""

import torch
from torch import nn

from pgolf.model.adapter import MATRICES, Adapters, LowRank
from pgolf.model.asymmetric_softcap import AsymmetricSoftcap
from pgolf.model.attention import Attention
from pgolf.model.bigram_hash import BigramHash
from pgolf.model.cross_carry import CrossCarry
from pgolf.model.deep_orthogonal import DeepOrthogonal
from pgolf.model.dense_gate import DenseGate
from pgolf.model.embedding import Embedding
from pgolf.model.engram import Engram
from pgolf.model.factored_embedding import FactoredEmbedding
from pgolf.model.gated_xsa import GatedXsa
from pgolf.model.gpt import Gpt, GptConfig
from pgolf.model.headwise_gate import HeadwiseGate
from pgolf.model.layer_sharing import LayerSharing
from pgolf.model.ln_scale import LnScale
from pgolf.model.mimetic import Mimetic
from pgolf.model.mlp import Mlp
from pgolf.model.ntk import Ntk
from pgolf.model.overtone import Overtone
from pgolf.model.phase_mix import PhaseMix
from pgolf.model.recur_alpha import RecurAlpha
from pgolf.model.recurrence import Recurrence
from pgolf.model.residual import Residual
from pgolf.model.rope import Rope
from pgolf.model.skip_gate import SkipGate
from pgolf.model.smear_blend import SmearBlend
from pgolf.model.smear_gate import SmearGate
from pgolf.model.softcap import Softcap
from pgolf.model.sparse_gate import SparseGate
from pgolf.model.two_lane import TwoLane
from pgolf.model.u_net import UNet
from pgolf.model.value_embedding import ValueEmbedding
from pgolf.model.value_residual import ValueResidual
from pgolf.model.xsa import Xsa
from pgolf.model.yarn import Yarn

VOCAB = 24
BOS = 1


def small(**changes: object) -> GptConfig:
    """Three blocks of width 16: one skip, a middle block without, grouped heads, partial RoPE."""
    given = {"layers": 3, "width": 16, "attention": Attention(heads=4, kv_heads=2), "rope": Rope(dims=2)}
    return GptConfig.model_validate(given | changes)


EVERYTHING = ("shared", "looped", "plain")


def everything(kind: str) -> GptConfig:
    """Networks with as many techniques on as go together; each of EVERYTHING has some that others exclude."""
    heads = {"heads": 4, "kv_heads": 2}
    if kind == "shared":
        return small(
            layers=6, sharing=LayerSharing(stored=3, lora_rank=2, lora_alpha=4.0),
            attention=Attention(**heads, xsa=Xsa(last_layers=2), gate=HeadwiseGate()),
            rope=Rope(dims=4, scaling=Yarn(train_length=32, used_length=64)),
            mlp=Mlp(layer_mults=(1.5, 2.0, 2.5), layer_slopes=(0.0, 0.25, 0.5)),
            residual=Residual(phase=PhaseMix()), embedding=Embedding(factored=FactoredEmbedding(rank=12)),
            u_net=UNet(gate=SkipGate()), ln_scale=LnScale(), softcap=Softcap(sides=AsymmetricSoftcap()),
            smear=SmearGate(window=4), ngrams=Engram(buckets=61, rank=4), output_init=DeepOrthogonal(),
            recurrence=Recurrence(first=1, last=2, passes=2, from_fraction=0.5, carry=CrossCarry()),
            value_embedding=ValueEmbedding(rank=4, layers=(2, 5)), parallel=TwoLane(from_layer=4, merge="learned"),
        )  # fmt: skip
    if kind == "looped":
        return small(
            layers=5, attention=Attention(**heads, xsa=GatedXsa(), gate=SparseGate(window=4, scale=0.5)),
            rope=Rope(dims=4, scaling=Ntk(train_length=32, used_length=64)), mlp=Mlp(negative_slope=0.5),
            embedding=Embedding(overtone=Overtone()), softcap=Softcap(sides=AsymmetricSoftcap(form="gain")),
            smear=SmearBlend(), ngrams=BigramHash(buckets=127, rank=4, trigram=True), output_init=Mimetic(),
            recurrence=Recurrence(first=1, last=2, passes=3, from_fraction=0.3, carry=RecurAlpha()),
            value_embedding=ValueEmbedding(rank=4, layers=(1,)), parallel=TwoLane(from_layer=3),
        )  # fmt: skip
    return small(
        layers=4, attention=Attention(**heads, value_residual=ValueResidual(), gate=DenseGate(bias=4.0)),
        ngrams=BigramHash(buckets=127, rank=4), ln_scale=LnScale(), smear=SmearBlend(before_norm=True),
    )  # fmt: skip


def randomized(module: nn.Module, seed: int, std: float = 1.0) -> nn.Module:
    """Every parameter drawn from N(0, std^2)."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        nn.init.normal_(p, std=std, generator=generator)
    return module.eval()


def network(config: GptConfig | None = None, seed: int = 0, vocab_size: int = VOCAB, std: float = 0.5) -> Gpt:
    """A network that no training made, and that uses everything it has."""
    built = randomized((config or small()).build(vocab_size), seed, std)
    assert isinstance(built, Gpt)
    return built


def adapters_of(network: Gpt, rows: int, seed: int = 0, std: float = 0.3) -> list[Adapters]:
    """For every execution and matrix a random one, another in every row."""

    def adapter(layer: int, name: str) -> nn.Module:
        block = network._stored(layer)
        weight = getattr(block.attention if name in "qkvo" else block.mlp, name).weight
        return LowRank(weight.shape[1], weight.shape[0], 2, rows=rows)

    made = nn.ModuleList(nn.ModuleDict({n: adapter(layer, n) for n in MATRICES}) for layer in network.order)
    randomized(made, seed, std)
    return [dict(own.items()) for own in made]  # type: ignore[operator]


def stream(seed: int, length: int, documents: int, vocab_size: int = VOCAB) -> torch.Tensor:
    """One row of tokens that begins with BOS and holds up to `documents` documents."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, vocab_size, (1, length), generator=generator)
    tokens[:, torch.randint(0, length, (documents,), generator=generator)] = BOS
    tokens[:, 0] = BOS
    return tokens


def tokens_of(x: torch.Tensor, vocab_size: int = VOCAB) -> torch.Tensor:
    """Tokens made of activations [rows, time, width], for modules that read tokens; a change of 1 changes them."""
    return (7 * x[..., 0]).round().long() % vocab_size
