"""XSA, exclusive self attention: a head's output loses its component along its own position's value.

    o_h <- o_h - (o_h . v^) v^        v^ = v / max(|v|, 1e-12), the value of the same position and KV group

What a position already knows of itself travels in the residual stream; attention is left to bring the rest.
`v` is the tensor that attention used. It goes after the softmax and before any gate. On the last 3 to 4
layers -0.002 to -0.005 BPB, on all of them a little more (PR 287, 1019). The output is grouped, the value
is never repeated per query head.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pgolf.section import Section

EPS = 1e-12


class Xsa(Section):
    kind: Literal["xsa"] = "xsa"
    last_layers: int | None = Field(None, ge=1)  # None: all

    def build(self, heads: int, layer: int, layers: int) -> "XsaModule | None":
        return XsaModule() if on_layer(self.last_layers, layer, layers) else None


def on_layer(last_layers: int | None, layer: int, layers: int) -> bool:
    """Whether `layer` of `layers` is among the last `last_layers`."""
    return last_layers is None or layer >= layers - last_layers


def along_value(
    o: Float[Tensor, "batch time heads dim"], v: Float[Tensor, "batch time kv_heads dim"]
) -> Float[Tensor, "batch time heads dim"]:
    """(o . v^) v^ for every head, with the value of the head's KV group."""
    kv_heads = v.shape[2]
    grouped = o.unflatten(2, (kv_heads, o.shape[2] // kv_heads))
    unit = (v / v.norm(dim=-1, keepdim=True).clamp_min(EPS)).unsqueeze(3)
    return ((grouped * unit).sum(-1, keepdim=True) * unit).flatten(2, 3)


class XsaModule(nn.Module):
    def forward(
        self, o: Float[Tensor, "batch time heads dim"], v: Float[Tensor, "batch time kv_heads dim"]
    ) -> Float[Tensor, "batch time heads dim"]:
        return o - along_value(o, v)
