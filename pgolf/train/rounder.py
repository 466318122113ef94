"""What takes a matrix's place in the forward while it is trained as its rounded self."""

from jaxtyping import Float
from torch import Tensor


class Rounder:
    """The weight -> what of it is applied; `turn` says how far the run is and which step this is."""

    def turn(self, progress: float, step: int) -> None:
        """Nothing changes from step to step, unless a subclass says so."""

    def __call__(self, w: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
        raise NotImplementedError


def straight_through(
    w: Float[Tensor, "rows cols"], rounded: Float[Tensor, "rows cols"]
) -> Float[Tensor, "rows cols"]:
    """Exactly `rounded`, with the gradient of w. In this order: w + (rounded - w) is off by a last bit."""
    return rounded.detach() + (w - w.detach())
