"""Which grid a role gets. Everything that quantizes matrices on tuned grids holds one.

A grid has a half-range `qmax`, gives every row of a matrix its step (`row_codes`), rounds to a step (`codes`) and says
what a weight is expected to cost (`expected_bits`).
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator
from torch import Tensor

from pgolf.formats.quantized import Matrix
from pgolf.model.roles import Role
from pgolf.quantize.clip_search import ClipSearch, RowMax
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.sd_clip import SdClip
from pgolf.section import Section

Grid = Annotated[SdClip | ClipSearch | RowMax, Field(discriminator="kind")]
STEP_BITS = 2.5  # of a row's step code, coded as a difference (reference: compression, 2.5)


class RoleGrids(Section):
    """A grid per matrix role; the late record stacks spend most on the embedding (PR 1394, 1586).

    Further tables are coded as the embedding is, small projections as attention is.
    """

    embedding: Grid = SdClip(bits=8, clip_sigmas=20.0)
    attention: Grid = SdClip()
    mlp: Grid = SdClip()
    gate: QuantGate | None = None  # None: gate matrices stay in float16

    @field_validator("embedding", "attention", "mlp", mode="before")
    @classmethod
    def _once_the_only_kind(cls, given: Any) -> Any:
        """A grid written without its kind is SdClip, as it was when there was no other."""
        return {"kind": "sd_clip", **given} if isinstance(given, Mapping) else given

    def of(self, role: Role) -> Grid:
        grids: dict[Role, Grid] = {
            Role.EMBEDDING: self.embedding,
            Role.TABLE: self.embedding,
            Role.ATTENTION: self.attention,
            Role.PROJECTION: self.attention,
            Role.MLP: self.mlp,
        }
        return grids[role]

    def expected_bits(self, role: Role, rows: int, cols: int) -> float:
        """Of a matrix on its role's grid, after entropy coding, with its steps."""
        if role is Role.GATE:
            return rows * cols * self.gate.bits + STEP_BITS * rows if self.gate else 16.0 * rows * cols
        return rows * cols * self.of(role).expected_bits(cols) + STEP_BITS * rows

    def gates(self, weights: Mapping[str, Tensor], roles: Mapping[str, Role]) -> dict[str, Matrix]:
        """The gate matrices on their grid, none without one."""
        if self.gate is None:
            return {}
        return {n: self.gate.quantize(w) for n, w in weights.items() if roles[n] is Role.GATE}
