"""Phase-transition start of the residual mix: early blocks read the embedding, late ones the stream.

    tau_l = sigmoid(slope (l / (L - 1) - 1/2))        m0 = tau_l, m1 = 1 - tau_l

With slope 3: 0.18 of the stream and 0.82 of the embedding in the first block, the reverse in the last. Used in
the 1.1748 record, dropped later with no loss that was measured.
"""

import math

from pydantic import Field

from pgolf.section import Section


class PhaseMix(Section):
    slope: float = Field(3.0, gt=0)

    def start(self, layer: int, layers: int) -> tuple[float, float]:
        """(m0, m1) of block `layer` of `layers`; a lone block is in the middle."""
        depth = layer / (layers - 1) if layers > 1 else 0.5
        tau = 1 / (1 + math.exp(-self.slope * (depth - 0.5)))
        return tau, 1 - tau
