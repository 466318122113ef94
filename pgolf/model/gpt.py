"""The assembly, and the one forward that training, calibration, evaluation and the compressor call.

x = n(E[t]);  encoder blocks push, decoder blocks pop;  logits = softcap(E n(x))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from pgolf.kernels.attention import visible
from pgolf.model.attention import Attention
from pgolf.model.block import Block
from pgolf.model.embedding import Embedding, EmbeddingModule
from pgolf.model.linear import Linear
from pgolf.model.ln_scale import LnScale
from pgolf.model.mlp import Mlp
from pgolf.model.residual import Residual
from pgolf.model.rms_norm import RmsNorm, rms_norm
from pgolf.model.roles import roles_of
from pgolf.model.rope import Rope
from pgolf.model.softcap import Softcap, softcap
from pgolf.model.u_net import UNet, UNetModule
from pgolf.section import RuleBroken, Section


class GptConfig(Section):
    """A network up to its vocabulary, which the tokenizer decides."""

    layers: int = Field(9, ge=1, le=128)
    width: int = Field(512, ge=8)
    attention: Attention = Attention()
    rope: Rope = Rope()
    mlp: Mlp = Mlp()
    residual: Residual = Residual()
    embedding: Embedding = Embedding()
    u_net: UNet | None = UNet()
    ln_scale: LnScale | None = None
    softcap: Softcap | None = Softcap()

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

    def build(self, vocab_size: int) -> "Gpt":
        """The network with unset parameters; follow with `reset` or `load_state_dict`."""
        blocks = [
            Block(
                self.attention.build(self.width, self.rope),
                self.mlp.build(self.width),
                self.residual.build(self.width),
                self.ln_scale.factor(layer) if self.ln_scale else 1.0,
            )
            for layer in range(self.layers)
        ]
        return Gpt(
            self.embedding.build(vocab_size, self.width),
            blocks,
            self.u_net.build(self.layers, self.width) if self.u_net else None,
            self.softcap.cap if self.softcap else None,
        )


def assemble(model: dict[str, Any], vocab_size: int, weights: Mapping[str, Tensor], device: str) -> "Gpt":
    """The network of a plain config with these weights, on a device, ready to predict."""
    network = GptConfig.model_validate(model).build(vocab_size)
    network.load_state_dict(weights)
    return network.on(device).eval()


class Gpt(nn.Module):
    """A decoder-only transformer. Float32 masters; `dtype` is what activations are computed in."""

    def __init__(
        self, embedding: EmbeddingModule, blocks: list[Block], u_net: UNetModule | None, cap: float | None
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.u_net = u_net
        self.cap = cap
        self.final_norm = RmsNorm()
        self.dtype = torch.float32
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

    def forward(
        self, tokens: Int[Tensor, "batch time"], starts: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """Float32 logits for the token after each position. Nothing is read across a document start."""
        mask = visible(starts)
        x = x0 = rms_norm(self.embedding(tokens, self.dtype))
        encoders = self.u_net.skips if self.u_net is not None else 0
        stack: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            if self.u_net is not None and layer >= encoders:
                x = self.u_net(x, layer - encoders, stack)
            x = block(x, x0, mask)
            if layer < encoders:
                stack.append(x)
        logits = self.embedding.logits(self.final_norm(x)).float()
        return logits if self.cap is None else softcap(logits, self.cap)

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
