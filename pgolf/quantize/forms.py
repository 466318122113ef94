"""How fine each weight's grid is, up to one global constant: the forms of the rate-distortion solver.

Rounding W [rows, cols] in steps S leaves a residual uniform in +-S/2 for every weight, after error feedback in
its own coordinate, so with the output Fisher g (or the pivots of whole G) and the pivots d of the input Hessian

    loss = sum_rc g_r d_c S_rc^2 / 24         rate = const - sum_rc log2 S_rc

whose optimum at any rate is S_rc = kappa / sqrt(g_r d_c): every weight contributes kappa^2 / 24, and the
deviation of a row does not appear at all. The forms use more and more of it:

    type_clips     S_r  = c_type   std_r     the best that clips tuned by type can reach (M1t)
    tensor_clips   S_r  = c_tensor std_r     and rows of the tied table by what tokens are worth (M1e2)
    fisher_rows    S_r  = kappa / sqrt(g_r mean d)                                              (M2)
    fisher_grid    S_rc = kappa / sqrt(g_r d_c)                                                 (M3)
    two_sided      the same with the pivots of whole output covariances, and feedback on both sides (M4)

(waterfilling of weights: https://arxiv.org/abs/2603.04956; the measurements behind the list: benchmarks).
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section


class TypeClips(Section):
    kind: Literal["type_clips"] = "type_clips"


class TensorClips(Section):
    kind: Literal["tensor_clips"] = "tensor_clips"


class FisherRows(Section):
    kind: Literal["fisher_rows"] = "fisher_rows"


class FisherGrid(Section):
    kind: Literal["fisher_grid"] = "fisher_grid"


class TwoSided(Section):
    kind: Literal["two_sided"] = "two_sided"
    shrinkage: float = Field(0.15, ge=0, le=1)  # of output covariances toward their diagonals
    damping: float = Field(0.01, gt=0)  # of output covariances, as a fraction of the mean diagonal


Form = Annotated[TypeClips | TensorClips | FisherRows | FisherGrid | TwoSided, Field(discriminator="kind")]

WORTHLESS = 0.01  # of the mean Fisher: what the least of a matrix's rows counts as


def worth(
    g: Float[Tensor, "batch rows"], d: Float[Tensor, "batch cols"], spread: Float[Tensor, "batch rows"]
) -> Float[Tensor, " batch"]:
    """What a matrix's rows cost at steps of one standard deviation, on average: mean of g d std^2."""
    return (g * spread.square()).mean(1) * d.mean(1)


def relative_steps(
    form: Form,
    g: Float[Tensor, "batch rows"],
    d: Float[Tensor, "batch cols"],
    spread: Float[Tensor, "batch rows"],
    clip: Float[Tensor, " batch"],
    by_token: bool,
) -> tuple[Float[Tensor, "batch rows"], Float[Tensor, "batch cols"] | None]:
    """Row and column factors of the steps at kappa = 1.

    Args:
        g: output Fisher, or row pivots.
        d: column pivots.
        spread: standard deviation of the rows.
        clip: mean worth over the matrices that share a clip (`worth`), for the forms with clips.
        by_token: the matrix is the tied table, whose rows `tensor_clips` treats as `fisher_rows` does.
    """
    if isinstance(form, TypeClips) or (isinstance(form, TensorClips) and not by_token):
        return spread / clip.sqrt().unsqueeze(1), None
    if isinstance(form, TensorClips | FisherRows):
        return 1 / (g * d.mean(1, keepdim=True)).sqrt(), None
    middle = d.log().mean(1, keepdim=True).exp()
    return 1 / (g * middle).sqrt(), (middle / d).sqrt()


def floored(g: Float[Tensor, "*batch rows"], share: float) -> Float[Tensor, "*batch rows"]:
    """Rows that a sample found worthless count as `share` of the mean: they may matter elsewhere."""
    return torch.maximum(g, share * g.mean(-1, keepdim=True))
