"""Which grid a role gets. Everything that quantizes matrices holds one."""

from pgolf.model.roles import Role
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.sd_clip import SdClip
from pgolf.section import Section


class RoleGrids(Section):
    """A grid per matrix role; the late record stacks spend most on the embedding (PR 1394, 1586).

    Further tables are coded as the embedding is, small projections as attention is.
    """

    embedding: SdClip = SdClip(bits=8, clip_sigmas=20.0)
    attention: SdClip = SdClip()
    mlp: SdClip = SdClip()
    gate: QuantGate | None = None  # None: gate matrices stay in float16

    def of(self, role: Role) -> SdClip:
        grids = {
            Role.EMBEDDING: self.embedding,
            Role.TABLE: self.embedding,
            Role.ATTENTION: self.attention,
            Role.PROJECTION: self.attention,
            Role.MLP: self.mlp,
        }
        return grids[role]
