"""The assembly, and the one forward that training, calibration, evaluation and the compressor call.

x = n(smear(E[t]));  blocks run in the recurrence's order, the first half pushes skips, the second pops them;
logits = softcap(E n(x))

During training parts of the network may still be off (`set_progress`): a new network has everything on, and
that is what is deployed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.kernels.attention import Layout, prepare
from pgolf.model.attention import Attention
from pgolf.model.block import Block
from pgolf.model.embedding import Embedding, EmbeddingModule
from pgolf.model.linear import Linear
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.parallel_residual import ParallelResidual
from pgolf.model.reads import Reads
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
from pgolf.section import RuleBroken, Section

Smear = Annotated[SmearGate | SmearBlend, Field(discriminator="kind")]
Parallel = Annotated[ParallelResidual | TwoLane, Field(discriminator="kind")]


class GptConfig(Section):
    """A network up to its vocabulary, which the tokenizer decides."""

    layers: int = Field(9, ge=1, le=128)  # stored blocks
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

    @model_validator(mode="after")
    def _shapes_fit(self) -> "GptConfig":
        dim = self.attention.head_dim(self.width)
        if self.rope.dims > dim:
            raise RuleBroken(
                "rope.dims is at most the head dimension width / heads",
                f"rope.dims={self.rope.dims}, width/heads={dim}",
                f"rope.dims={dim}",
            )
        self.mlp.hidden(self.width)
        return self

    @model_validator(mode="after")
    def _order_fits(self) -> "GptConfig":
        if self.recurrence and self.recurrence.last >= self.layers:
            raise RuleBroken(
                "recurrence.last is one of the model's layers (the first is 0)",
                f"recurrence.last={self.recurrence.last}, layers={self.layers}",
                f"recurrence.last={self.layers - 1}",
            )
        if self.parallel:
            least = max((self.recurrence.last + 1) if self.recurrence else 0, self._first_decoder())
            if not least <= self.parallel.from_layer < self.layers:
                raise RuleBroken(
                    "parallel.from_layer is a layer of the decoder, after the recurrent band",
                    f"parallel.from_layer={self.parallel.from_layer}, layers={self.layers}",
                    f"from {least} to {self.layers - 1}" if least < self.layers else "parallel=null",
                )
        return self

    def _first_decoder(self) -> int:
        return self.layers // 2 if self.u_net and isinstance(self.parallel, TwoLane) else 0

    def order(self, passes: int | None = None) -> list[int]:
        """Blocks in the order of their execution, the recurrent band `passes` times (None: all)."""
        if self.recurrence is None:
            return list(range(self.layers))
        return self.recurrence.order(self.layers, self.recurrence.passes if passes is None else passes)

    def build(self, vocab_size: int) -> "Gpt":
        """The network with unset parameters; follow with `reset` or `load_state_dict`."""
        return Gpt(self, vocab_size)

    def build_block(self, layer: int) -> Block:
        """Stored block number `layer`, with unset parameters."""
        parallel = isinstance(self.parallel, ParallelResidual) and layer >= self.parallel.from_layer
        return Block(
            self.attention.build(self.width, self.rope, layer, self.layers),
            self.mlp.build(self.width),
            self.residual.build(self.width),
            self.ln_scale.factor(layer) if self.ln_scale else 1.0,
            parallel,
        )


def assemble(model: dict[str, Any], vocab_size: int, weights: Mapping[str, Tensor], device: str) -> "Gpt":
    """The network of a plain config with these weights, on a device, ready to predict."""
    network = GptConfig.model_validate(model).build(vocab_size)
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
        self.blocks = nn.ModuleList(config.build_block(layer) for layer in range(config.layers))
        self.u_net: UNetModule | None = (
            config.u_net.build(len(config.order()), config.width) if config.u_net else None
        )
        self.two_lane: TwoLaneModule | None = (
            config.parallel.build(config.layers) if isinstance(config.parallel, TwoLane) else None
        )
        self.cap = config.softcap.cap if config.softcap else None
        self.final_norm = RmsNorm()
        self.dtype = torch.float32
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
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        return self.to(device)

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

    def layout(self, starts: Bool[Tensor, "batch time"]) -> Layout:
        """The rows' documents as attention reads them. Outside what is compiled: shapes depend on data."""
        return prepare(starts)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        starts: Bool[Tensor, "batch time"],
        layout: Layout | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Float32 logits for the token after each position. Nothing is read across a document start."""
        logits = self.raw_logits(self.hidden(tokens, starts, layout)).float()
        return logits if self.cap is None else softcap(logits, self.cap)

    def hidden(
        self,
        tokens: Int[Tensor, "batch time"],
        starts: Bool[Tensor, "batch time"],
        layout: Layout | None = None,
    ) -> Float[Tensor, "batch time d"]:
        """The normalized last state of every position, in the activations' dtype."""
        x = self._embedded(tokens, starts)
        reads = Reads(x, self.layout(starts) if layout is None else layout)
        encoders = len(self.order) // 2 if self.u_net is not None else 0
        stack: list[Tensor] = []
        for layer in self.order[:encoders]:
            x = self.blocks[layer](x, reads)
            stack.append(x)
        return self.final_norm(self._decoded(x, reads, stack, self.order[encoders:]))

    def raw_logits(self, hidden: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time vocab"]:
        """The tied head before the softcap, in the activations' dtype."""
        return self.embedding.logits(hidden)

    def _embedded(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d"]:
        x = self.embedding(tokens, self.dtype)
        if self.smear is None:
            return rms_norm(x)
        return rms_norm(self.smear(x, starts)) if self.smear.before_norm else self.smear(rms_norm(x), starts)

    def _decoded(
        self, x: Float[Tensor, "batch time d"], reads: Reads, stack: list[Tensor], layers: tuple[int, ...]
    ) -> Float[Tensor, "batch time d"]:
        lanes = None
        for position, layer in enumerate(layers):
            block = self.blocks[layer]
            if self.two_lane is not None and layer >= self.two_lane.from_layer:
                lane0, lane1 = lanes or (x, x)
                lanes = self.two_lane((self._skipped(lane0, position, stack), lane1), layer, block, reads)
            else:
                x = block(self._skipped(x, position, stack), reads)
        return self.two_lane.merge(lanes) if self.two_lane is not None and lanes else x

    def _skipped(
        self, x: Float[Tensor, "batch time d"], position: int, stack: list[Tensor]
    ) -> Float[Tensor, "batch time d"]:
        return x if self.u_net is None else self.u_net(x, position, stack)

    @contextmanager
    def observed(self, see: Callable[[str, Tensor], None]) -> Iterator[None]:
        """For the block's duration, call see(parameter name, inputs) for every matrix as it is applied.

        The tied table is observed as the output matrix: its inputs are the final norm's outputs.
        """
        handles = [
            module.register_forward_pre_hook(lambda _, args, n=f"{name}.weight": see(n, args[0]))
            for name, module in self.named_modules()
            if isinstance(module, Linear)
        ]
        handles.append(self.final_norm.register_forward_hook(lambda _, __, out: see("embedding.weight", out)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
