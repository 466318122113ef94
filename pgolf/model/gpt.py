"""The assembly, and the one forward that training, calibration, evaluation and the compressor call.

x = n(smear(E[t] + n-grams));  layers run in the recurrence's order, the first half pushes skips, the second
pops them;  logits = softcap(E n(x))

During training parts of the network may still be off (`set_progress`): a new network has everything on, and
that is what is deployed.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.kernels.attention import Backend, Layout, prepare
from pgolf.kernels.choice import Choice, Shape, choose
from pgolf.model.adapter import Adapters
from pgolf.model.asymmetric_softcap import AsymmetricSoftcapModule
from pgolf.model.attention import Attention
from pgolf.model.bigram_hash import BigramHash, BigramHashModule
from pgolf.model.block import Block
from pgolf.model.cache import Cache
from pgolf.model.cross_carry import CrossCarryModule
from pgolf.model.deep_orthogonal import DeepOrthogonal
from pgolf.model.embedding import Embedding, EmbeddingModule
from pgolf.model.engram import Engram, EngramModule
from pgolf.model.fits import check_order, check_shapes, check_values
from pgolf.model.layer_sharing import LayerSharing, LayerSharingModule
from pgolf.model.ln_scale import LnScale
from pgolf.model.midway import Midway
from pgolf.model.mimetic import Mimetic
from pgolf.model.mlp import Mlp, MlpModule
from pgolf.model.observe import See, observed
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.reads import Reads
from pgolf.model.recur_alpha import RecurAlphaModule
from pgolf.model.recurrence import Recurrence
from pgolf.model.residual import Residual
from pgolf.model.rms_norm import RmsNorm, rms_norm
from pgolf.model.roles import roles_of
from pgolf.model.rope import Rope
from pgolf.model.smear_blend import SmearBlend, SmearBlendModule
from pgolf.model.smear_gate import SmearGate, SmearGateModule
from pgolf.model.softcap import Softcap, softcap
from pgolf.model.two_lane import TwoLane, TwoLaneModule
from pgolf.model.u_net import UNet, UNetModule
from pgolf.model.value_embedding import ValueEmbedding, ValueEmbeddingModule
from pgolf.section import Section

Smear = Annotated[SmearGate | SmearBlend, Field(discriminator="kind")]
Parallel = Annotated[ParallelResidual | TwoLane, Field(discriminator="kind")]
Ngrams = Annotated[BigramHash | Engram, Field(discriminator="kind")]
OutputInit = Annotated[Mimetic | DeepOrthogonal, Field(discriminator="kind")]


class GptConfig(Section):
    """A network up to its vocabulary, which the tokenizer decides."""

    layers: int = Field(9, ge=1, le=128)  # one stored block each, unless they share
    width: int = Field(512, ge=8)
    attention: Attention = Attention()
    rope: Rope = Rope()
    mlp: Mlp = Mlp()
    residual: Residual = Residual()
    embedding: Embedding = Embedding()
    u_net: UNet | None = UNet()
    ln_scale: LnScale | None = None
    softcap: Softcap | None = Softcap()
    smear: Smear | None = None
    recurrence: Recurrence | None = None
    parallel: Parallel | None = None
    ngrams: Ngrams | None = None
    value_embedding: ValueEmbedding | None = None
    sharing: LayerSharing | None = None
    output_init: OutputInit | None = None  # None: output projections begin at zero

    @model_validator(mode="after")
    def _fits(self) -> "GptConfig":
        check_shapes(self)
        check_order(self)
        check_values(self)
        return self

    def uses(self) -> tuple[int, ...]:
        """The stored block of every layer."""
        return self.sharing.blocks(self.layers) if self.sharing else tuple(range(self.layers))

    def order(self, passes: int | None = None) -> list[int]:
        """Layers in the order of their execution, the recurrent band `passes` times (None: all)."""
        if self.recurrence is None:
            return list(range(self.layers))
        return self.recurrence.order(self.layers, self.recurrence.passes if passes is None else passes)

    def build(self, vocab_size: int) -> "Gpt":
        """The network with unset parameters; follow with `reset` or `load_state_dict`."""
        return Gpt(self, vocab_size)

    def build_values(self, vocab_size: int) -> ValueEmbeddingModule | None:
        """The value embedding, if there is one."""
        if self.value_embedding is None:
            return None
        return self.value_embedding.build(
            vocab_size, self.attention.kv_heads, self.attention.head_dim(self.width)
        )

    def build_carry(self) -> CrossCarryModule | RecurAlphaModule | None:
        """What passes of the recurrence take over from one another, if anything."""
        band = self.recurrence
        return band.carry.build(band.first, band.last) if band and band.carry else None

    def build_sides(self) -> AsymmetricSoftcapModule | None:
        """The learned softcap, if it is asymmetric."""
        cap = self.softcap
        return cap.sides.build(cap.cap) if cap and cap.sides else None

    def build_block(self, number: int) -> Block:
        """Stored block number `number`, with unset parameters."""
        stored = len(set(self.uses()))
        attention = self.attention.build(self.width, self.rope, number, stored)
        mlp = self.mlp.build(self.width, number)
        if self.output_init is not None:
            heads, kv_heads = self.attention.heads, self.attention.kv_heads
            attention.o.initialize = self.output_init.attention_output(
                attention.v, heads, kv_heads, self.layers
            )
            mlp.down.initialize = self.output_init.mlp_output(self.layers)
        return Block(
            attention,
            mlp,
            self.residual.build(self.width, number, stored),
            self.ln_scale.factor(number) if self.ln_scale else 1.0,
            isinstance(self.parallel, ParallelResidual) and number >= self.parallel.from_layer,
        )


def assemble(model: dict[str, Any], vocab_size: int, weights: Mapping[str, Tensor], device: str) -> "Gpt":
    """The network of a plain config with these weights, on a device, ready to predict."""
    return assembled(GptConfig.model_validate(model), vocab_size, weights, device)


def assembled(config: GptConfig, vocab_size: int, weights: Mapping[str, Tensor], device: str) -> "Gpt":
    """The same, of a config that was read already."""
    network = config.build(vocab_size)
    network.load_state_dict(weights)
    return network.on(device).eval()


class Gpt(nn.Module):
    """A decoder-only transformer. Float32 masters; `dtype` is what activations are computed in."""

    def __init__(self, config: GptConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.embedding: EmbeddingModule = config.embedding.build(vocab_size, config.width)
        self.smear: SmearGateModule | SmearBlendModule | None = (
            config.smear.build(config.width) if config.smear else None
        )
        self.ngrams: BigramHashModule | EngramModule | None = (
            config.ngrams.build(config.width) if config.ngrams else None
        )
        self.value_embedding: ValueEmbeddingModule | None = config.build_values(vocab_size)
        self.uses = config.uses()
        self.blocks = nn.ModuleList(config.build_block(number) for number in range(len(set(self.uses))))
        self.sharing: LayerSharingModule | None = (
            config.sharing.build([self._stored(layer) for layer in range(config.layers)])
            if config.sharing
            else None
        )
        self.carry: CrossCarryModule | RecurAlphaModule | None = config.build_carry()
        self.u_net: UNetModule | None = (
            config.u_net.build(len(config.order()), config.width) if config.u_net else None
        )
        self.two_lane: TwoLaneModule | None = (
            config.parallel.build(config.layers) if isinstance(config.parallel, TwoLane) else None
        )
        self.sides: AsymmetricSoftcapModule | None = config.build_sides()
        self.final_norm = RmsNorm()
        self.device, self.dtype = "cpu", torch.float32
        self.backend: Backend = "sdpa"
        self.fused = False
        self.order = tuple(config.order())
        self.roles = roles_of(self)

    @property
    def vocab_size(self) -> int:
        return self.embedding.weight.shape[0]

    @property
    def params(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def reset(self, seed: int) -> "Gpt":
        """Initialize every parameter from one seed, in module order."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if callable(reset := getattr(module, "reset", None)) and module is not self:
                reset(generator)
        return self

    def on(self, device: str) -> "Gpt":
        """Move to a device; activations are bfloat16 on a GPU and float32 on a CPU."""
        self.device, self.dtype = device, torch.bfloat16 if device == "cuda" else torch.float32
        return self.to(device)

    def choose_attention(
        self, rows: int, time: int, longest: int | None = None, name: str = "auto", compiled: bool = False
    ) -> Choice:
        """Settle on a backend for batches like this one; `auto` measures on a GPU.

        Raises:
            ConfigError: if the named backend does not exist or cannot run here.
        """
        a = self.config.attention
        shape = Shape(a.heads, a.kv_heads, a.head_dim(self.config.width), time, rows, longest)
        choice = choose(self.device, self.dtype, shape, name, compiled)
        self.backend = choice.name
        return choice

    def use_kernels(self, on: bool) -> None:
        """Train with fused kernels where they serve. Evaluation never does: scores are eager arithmetic."""
        self.fused = on
        for module in self.modules():
            if isinstance(module, MlpModule):
                module.fused = on

    def set_progress(self, progress: float) -> bool:
        """Switch on what is on at this fraction of the training run; whether anything changed."""
        recurrence = self.config.recurrence
        passes = recurrence.passes_at(progress) if recurrence else None
        order = tuple(self.config.order(passes))
        changed, self.order = order != self.order, order
        return changed

    def switches(self) -> tuple[float, ...]:
        """The run fractions at which `set_progress` changes the network, in order."""
        return self.config.recurrence.switches() if self.config.recurrence else ()

    def layout(self, starts: Bool[Tensor, "batch time"], longest: int | None = None) -> Layout:
        """The rows' documents as attention reads them, none longer than `longest` tokens.

        Outside what is compiled: shapes depend on data. `starts` may lie on the CPU still.
        """
        return prepare(starts, self.backend, longest, self.device)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        starts: Bool[Tensor, "batch time"],
        layout: Layout | None = None,
        adapters: Sequence[Adapters] = (),
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch new vocab"]:
        """Float32 logits for the token after each position. Nothing is read across a document start."""
        return self.softcapped(self.raw_logits(self.hidden(tokens, starts, layout, adapters, cache)).float())

    def hidden(
        self,
        tokens: Int[Tensor, "batch time"],
        starts: Bool[Tensor, "batch time"],
        layout: Layout | None = None,
        adapters: Sequence[Adapters] = (),
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch new d"]:
        """The normalized last state of every position, in the activations' dtype.

        `adapters` are added to the matrices of every execution in `order`, each its own; () for none. With a
        `cache` of the rows' beginning only positions after it are executed and returned, and then it knows
        them too. Tokens and starts are those of whole rows nevertheless; a layout does not go with it.
        """
        assert layout is None or cache is None, "a cache lays out what it knows itself"
        begun = self._begun(tokens, starts, cache)
        layout = self._layout(starts, cache) if layout is None else layout
        return self._ended(self._executed(begun, len(self.order), layout, adapters, cache))

    def lower(
        self,
        tokens: Int[Tensor, "batch time"],
        starts: Bool[Tensor, "batch time"],
        until: int,
        cache: Cache | None = None,
        adapters: Sequence[Adapters] = (),
    ) -> Midway:
        """The first `until` executions of every position; with a `cache`, of new ones."""
        assert 0 <= until <= len(self.order), "as many executions as there are, or fewer"
        begun = self._begun(tokens, starts, cache)
        return self._executed(begun, until, self._layout(starts, cache), adapters, cache)

    def upper(
        self, midway: Midway, layout: Layout, adapters: Sequence[Adapters] = ()
    ) -> Float[Tensor, "batch time d"]:
        """What `hidden` is, from where `lower` left off. There is an adapter for every execution in `order`
        here too: {} for those that are done with."""
        assert not any(adapters[: midway.step]), "the lower executions are done with"
        return self._ended(self._executed(midway, len(self.order), layout, adapters))

    def matrix(self, layer: int, name: str) -> Float[Tensor, "outputs inputs"]:
        """A layer's matrix by its name in MATRICES."""
        block = self._stored(layer)
        found: Tensor = getattr(block.mlp if name in ("up", "down") else block.attention, name).weight
        return found

    def raw_logits(self, hidden: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time vocab"]:
        """The tied head before the softcap, in the activations' dtype."""
        return self.embedding.logits(hidden)

    def softcapped(self, logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
        """The one place where raw logits (float32) are capped."""
        if self.sides is not None:
            return self.sides(logits)
        return logits if self.cap is None else softcap(logits, self.cap)

    @property
    def cap(self) -> float | None:
        """The constant of a symmetric softcap, None without one: what a fused loss applies by itself.

        With learned `sides` there is no such constant, and asking for it is a bug: use `softcapped`.
        """
        assert self.sides is None, "an asymmetric softcap is no constant"
        return None if self.config.softcap is None else self.config.softcap.cap

    def _embedded(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        x = self.embedding(tokens, self.dtype)
        if self.ngrams is not None:
            x = x + self.ngrams(tokens, starts, self.dtype)
        if self.smear is None:
            return rms_norm(x)
        return rms_norm(self.smear(x, starts)) if self.smear.before_norm else self.smear(rms_norm(x), starts)

    def _layout(self, starts: Bool[Tensor, "batch time"], cache: Cache | None) -> Layout:
        return cache.layout(starts) if isinstance(cache, Cache) else self.layout(starts)

    def _begun(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"], cache: Cache | None
    ) -> Midway:
        """The embedded positions, before any execution: with a cache those that it does not know."""
        x = self._embedded(tokens, starts)
        values = self.value_embedding(tokens, self.dtype) if self.value_embedding is not None else {}
        if isinstance(cache, Cache):
            assert cache.known < tokens.shape[1], "there are new positions"
            x = x[:, cache.known :]
            values = {layer: value[:, cache.known :] for layer, value in values.items()}
        return Midway(0, x, x, values)

    def _executed(
        self, at: Midway, until: int, layout: Layout, adapters: Sequence[Adapters], cache: Cache | None = None
    ) -> Midway:
        assert len(adapters) in (0, len(self.order)), "adapters for every execution"
        encoders = len(self.order) // 2 if self.u_net is not None else 0
        reads = Reads(at.x0, layout, at.values, at.first_value, cache=cache)
        x, lane, stack, visits = at.x, at.lane, list(at.stack), dict(at.visits)
        for step, layer in enumerate(self.order[at.step : until], at.step):
            own = () if self.sharing is None else (self.sharing.of(layer),)
            reads.turn(layer, *own, *adapters[step : step + 1], step=step)
            block, position = self._stored(layer), step - encoders
            if self.two_lane is not None and layer >= self.two_lane.from_layer:
                lanes = self._skipped(x, position, stack), x if lane is None else lane
                x, lane = self.two_lane(lanes, layer, block, reads)
                continue
            x = block(self._skipped(x, position, stack), reads)
            if self.carry is not None:
                x = self.carry(x, layer, visits)
            if position < 0:
                stack.append(x)
        if isinstance(cache, Cache):
            cache.known += x.shape[1]
        return Midway(until, x, at.x0, at.values, reads.first_value, lane, tuple(stack), visits)

    def _ended(self, at: Midway) -> Float[Tensor, "batch time d"]:
        if self.two_lane is None or at.lane is None:
            return self.final_norm(at.x)
        return self.final_norm(self.two_lane.merge((at.x, at.lane)))

    def _stored(self, layer: int) -> Block:
        return cast(Block, self.blocks[self.uses[layer]])

    def _skipped(
        self, x: Float[Tensor, "batch time d"], position: int, stack: list[Tensor]
    ) -> Float[Tensor, "batch time d"]:
        return x if self.u_net is None or position < 0 else self.u_net(x, position, stack)

    def observed(self, see: See) -> AbstractContextManager[None]:
        """For the block's duration, call see(parameter name, inputs) for every matrix as it is applied."""
        head = self.final_norm if self.embedding.out is None else self.embedding.out
        return observed(self, head, see)
