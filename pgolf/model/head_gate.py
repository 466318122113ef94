"""What the gates of attention's heads have in common.

A head gate sees a head's output after XSA, the block's normalized input and the raw query projection, and
scales the output before Wo. At most one is on: attention holds one.
"""

from jaxtyping import Float
from torch import Tensor, nn


class HeadGateModule(nn.Module):
    """A subclass says how many of its logits are further outputs of the query projection."""

    gates_in_q = 0

    def forward(
        self,
        o: Float[Tensor, "batch time heads dim"],
        y: Float[Tensor, "batch time width"],
        raw_q: Float[Tensor, "batch time q_out"],
    ) -> Float[Tensor, "batch time heads dim"]:
        raise NotImplementedError
