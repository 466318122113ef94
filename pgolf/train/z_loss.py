"""z-loss: + coefficient * mean(lse(z)^2), which keeps the softmax's normalizer near 1.

Cross-entropy does not change when a constant is added to all logits, so the normalizer drifts. Behind a
softcap of 30 it hardly can; the ternary stacks, with a cap of 10, needed 1e-4 (https://arxiv.org/abs/2204.02311).
"""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section


class ZLoss(Section):
    coefficient: float = Field(1e-4, gt=0)

    def penalty(self, lse: Float[Tensor, "*tokens"]) -> Float[Tensor, "*tokens"]:
        """Of each token, from the logarithm of its softmax's normalizer."""
        return self.coefficient * lse.square()
