"""Value residual: every layer's values take in those of layer 0 (ResFormer, arXiv 2410.17897).

    sigmoid      v_l <- v_l + sigmoid(a_l) v_0        a = 0: half of v_0 is added       (PR 569)
    additive     v_l <- v_l + a_l v_0                 a = 0: nothing at the start       (PR 1514)
    convex       v_l <- (1 - a_l) v_l + a_l v_0       a = 1/2                           (the paper's)

v_0 is layer 0's value projection as it is; a_l is one number a layer, from layer 1 on. Worth -0.001 BPB on
plain stacks (PR 1859). It does not go with recurrence (+0.14: v_0 enters again in every pass), with shared
blocks (for the same reason), with value embeddings (+0.0012) or with a parallel residual (they compete;
+0.0022 on the stack of PR 1493): a config that holds both is refused.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pgolf.model.reads import Reads
from pgolf.model.roles import Role
from pgolf.section import Section

Form = Literal["sigmoid", "additive", "convex"]
INITIAL: dict[Form, float] = {"sigmoid": 0.0, "additive": 0.0, "convex": 0.5}


class ValueResidual(Section):
    form: Form = "sigmoid"
    initial: float | None = None  # initial a; None: the form's own, 0, 0 or 1/2

    def build(self, layer: int) -> "ValueResidualModule":
        initial = INITIAL[self.form] if self.initial is None else self.initial
        return ValueResidualModule(self.form, initial, layer == 0)


class ValueResidualModule(nn.Module):
    ROLES = {"a": Role.CONTROL}

    def __init__(self, form: Form, initial: float, leads: bool) -> None:
        super().__init__()
        self.form, self.initial = form, initial
        self.a = None if leads else nn.Parameter(torch.empty(()))

    def reset(self, generator: torch.Generator) -> None:
        if self.a is not None:
            nn.init.constant_(self.a, self.initial)

    def forward(
        self, v: Float[Tensor, "batch time kv_heads dim"], reads: Reads
    ) -> Float[Tensor, "batch time kv_heads dim"]:
        """Layer 0 leaves its values behind; the others take them in."""
        if self.a is None:
            reads.first_value = v
            return v
        assert reads.first_value is not None, "layer 0 runs first"
        a = self.a.to(v.dtype)
        if self.form == "convex":
            return (1 - a) * v + a * reads.first_value
        return v + (torch.sigmoid(a) if self.form == "sigmoid" else a) * reads.first_value
