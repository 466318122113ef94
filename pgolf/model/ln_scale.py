"""LN scale: the pre-norms' outputs of block l are multiplied by 1/sqrt(l + 1) (PR 287 -> 315).

A constant per physical block. Worth -0.002 BPB together with partial RoPE at full scale, harmful in
very small runs (PR 1227), hence a choice. It has no settings: on or off.
"""

from pgolf.section import Section


class LnScale(Section):
    def factor(self, layer: int) -> float:
        return (layer + 1) ** -0.5
