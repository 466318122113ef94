"""How an update is orthogonalized: odd polynomials of a matrix that push every singular value towards 1.

    X <- a X + (b A + c A^2) X,   A = X X^T,   for each coefficient tuple (a, b, c)

on the short side, from a start whose singular values are at most 1. Three families of tuples:

* classic (Jordan's Muon; all records to PR 1736): one tuple throughout, start U / |U|_F. Steep at zero, at
  the price of a final band of [0.68, 1.20]. Five steps, or three ("NeoMuon").
* Polar Express (arXiv 2505.16932; PR 1344, 1787): a tuple for each step, each the best one for where the
  last has left the values. The band after five is [0.86, 1.14], so updates are 6-8 % longer than classic
  ones at the same rate: compare the two at rescaled rates.
* Turbo (arXiv 2512.04632; PR 1089, 1105): rows scaled by 1/sqrt(sum_j |A_ij|) first, which bounds the
  spectral norm by 1 far more tightly than the Frobenius norm does; steeper tuples without a safety factor;
  at the end rows, then columns are brought to length 1. The last makes every column of the update a unit
  vector, so a wide matrix moves sqrt(cols / rows) further than under the others. Four steps from the second
  tuple on leave a random update within 20 % of orthogonal; from the first on they have not arrived.

Computed in bfloat16 on a GPU, in the update's own dtype on a CPU.
"""

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from pgolf.section import Section

Coefficients = tuple[float, float, float]

CLASSIC: Coefficients = (3.4445, -4.7750, 2.0315)
POLAR_EXPRESS: tuple[Coefficients, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
TURBO: tuple[Coefficients, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115952949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.8913, -1.26800, 0.37680),
    (1.875, -1.25, 0.375),  # a fixed point: stands for every later step
)
TINY = 1e-7


class PolarExpress(Section):
    """The first k tuples of five."""

    kind: Literal["polar_express"] = "polar_express"
    margin: float = Field(1.0, ge=1)  # the start is U / (margin |U|_F); PR 1514 takes 1.02


class Turbo(Section):
    """The tuples from `first` on, after preconditioning."""

    kind: Literal["turbo"] = "turbo"
    first: int = Field(1, ge=1, le=7)  # the lineage's code starts at 2, the preconditioner standing for 1


Orthogonalizer = Annotated[PolarExpress | Turbo, Field(discriminator="kind")]


def coefficients(how: Orthogonalizer | None, steps: int) -> list[Coefficients]:
    """The tuple of each step; `how` None is classic."""
    if how is None:
        return [CLASSIC] * steps
    if isinstance(how, PolarExpress):
        assert steps <= len(POLAR_EXPRESS), "the section refuses more"
        return list(POLAR_EXPRESS[:steps])
    last = len(TURBO) - 1
    return [TURBO[min(how.first - 1 + step, last)] for step in range(steps)]


def orthogonalize(
    update: Float[Tensor, "n rows cols"], steps: int, how: Orthogonalizer | None = None
) -> Float[Tensor, "n rows cols"]:
    """Each matrix with its singular values near 1 and its singular vectors kept; zero stays zero.

    For singular values of at least 0.003 of the Frobenius norm five classic steps land in [0.68, 1.20], five
    of Polar Express in [0.86, 1.14]. The result is bfloat16 for an update on a GPU.
    """
    tall = update.shape[1] > update.shape[2]
    x = update.mT if tall else update
    margin = how.margin if isinstance(how, PolarExpress) else 1.0
    x = x / (margin * x.norm(dim=(1, 2), keepdim=True) + TINY)
    x = x.bfloat16() if x.is_cuda else x
    gram = x @ x.mT
    if isinstance(how, Turbo):
        scale = 1 / gram.abs().sum(dim=2, keepdim=True).sqrt().clamp_min(TINY)
        x, gram = scale * x, scale * gram * scale.mT
    for step, (a, b, c) in enumerate(coefficients(how, steps)):
        gram = x @ x.mT if step else gram
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.mT if tall else x
    return _unit_columns(_unit_columns(x.mT).mT) if isinstance(how, Turbo) else x


def _unit_columns(x: Float[Tensor, "n rows cols"]) -> Float[Tensor, "n rows cols"]:
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=_at_least_float32(x))
    return x / length.clamp_min(TINY).to(x.dtype)


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
