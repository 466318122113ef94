"""Layer sharing: fewer stored blocks than layers, each layer with low-rank deltas of its own.

    layer l executes block uses[l] (l mod `stored` unless said), with W + (alpha / rank) B_l A_l for each W

for the six projections of attention and MLP. B = 0 at the start: all layers of a block begin as that block.
What a block holds beside matrices is shared whole, and what goes by a layer's number inside a block (LN scale,
XSA on the last layers, MLP widths) goes by the stored block's; lanes, value embeddings and skips go by the
layer's. `uses` may be a recurrent band written out, which is LoRA per pass (proposed in several PRs, no verified
win); with one stored block it is a universal transformer (PR 1110: about even with the baseline).
"""

from pydantic import Field, model_validator
from torch import nn

from pgolf.model.adapter import MATRICES, Adapters, LowRank
from pgolf.model.block import Block
from pgolf.section import RuleBroken, Section


class LayerSharing(Section):
    stored: int = Field(ge=1)  # blocks
    uses: tuple[int, ...] | None = None  # the stored block of every layer; None: in turn
    lora_rank: int | None = Field(None, ge=1)  # None: layers of a block differ in nothing
    lora_alpha: float | None = Field(None, gt=0)  # None: the rank

    @model_validator(mode="after")
    def _in_use(self) -> "LayerSharing":
        if self.uses is not None and set(self.uses) != set(range(self.stored)):
            raise RuleBroken(
                "sharing.uses names every stored block, and no other",
                f"uses={list(self.uses)}, stored={self.stored}",
                f"numbers from 0 to {self.stored - 1}, each at least once",
            )
        if self.lora_alpha is not None and self.lora_rank is None:
            raise RuleBroken("sharing.lora_alpha scales adapters", "lora_rank=null", "give lora_rank")
        return self

    def blocks(self, layers: int) -> tuple[int, ...]:
        """The stored block of every layer. Raises RuleBroken if they do not go with so many layers."""
        if self.uses is not None and len(self.uses) != layers:
            raise RuleBroken(
                "sharing.uses has an entry for every layer",
                f"{len(self.uses)} entries, layers={layers}",
                f"layers={len(self.uses)}",
            )
        if self.stored > layers:
            raise RuleBroken(
                "sharing.stored is at most layers",
                f"stored={self.stored}, layers={layers}",
                f"stored={layers}",
            )
        return self.uses or tuple(layer % self.stored for layer in range(layers))

    def build(self, blocks: list[Block]) -> "LayerSharingModule":
        """Adapters for layers whose (stored) blocks these are."""
        rank, alpha = self.lora_rank, self.lora_alpha
        return LayerSharingModule(blocks if rank else [], rank or 1, alpha)


class LayerSharingModule(nn.Module):
    """The adapters of every layer."""

    def __init__(self, blocks: list[Block], rank: int, alpha: float | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict(_adapters(block, rank, alpha)) for block in blocks)

    def of(self, layer: int) -> Adapters:
        if not self.layers:
            return {}
        own = self.layers[layer]
        assert isinstance(own, nn.ModuleDict)
        return dict(own.items())


def _adapters(block: Block, rank: int, alpha: float | None) -> dict[str, nn.Module]:
    held = (getattr(block.attention if name in "qkvo" else block.mlp, name) for name in MATRICES)
    return {
        name: LowRank(matrix.weight.shape[1], matrix.weight.shape[0], rank, alpha)
        for name, matrix in zip(MATRICES, held, strict=True)
    }
