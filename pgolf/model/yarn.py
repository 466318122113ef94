"""YaRN: fast rotations are kept, slow ones are slowed down, and attention is sharpened a little.

    inv_i <- inv_i * ((1 - keep_i) / s + keep_i)        s = used_length / train_length
    q, k <- q, k * (1 + 0.1 ln s)

`wavelength` is the paper's ramp (https://arxiv.org/abs/2309.00071): with R_i = train_length inv_i / (2 pi) turns
over the training window, keep_i = clamp((R_i - 1) / (32 - 1), 0, 1). `index` is what the ternary record used
(base 5000, windows of 1024 stretched to 2048): inv_i / (1 + r_i (s - 1)) with r_i = clamp((2i/dims - 1/4) / (3/4),
0, 1), and no sharpening. Both lengths are settings, as for NTK scaling, and for its reason.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from pgolf.model.ntk import refuse_shorter
from pgolf.section import Section

SLOW, FAST = 1.0, 32.0  # turns over the training window: wholly stretched below, untouched above


class Yarn(Section):
    kind: Literal["yarn"] = "yarn"
    train_length: int = Field(1024, ge=1)  # positions that the base is meant for
    used_length: int = Field(2048, ge=1)  # positions of a window, in training and evaluation alike
    ramp: Literal["wavelength", "index"] = "wavelength"

    @model_validator(mode="after")
    def _longer(self) -> "Yarn":
        refuse_shorter(self.train_length, self.used_length)
        return self

    @property
    def ratio(self) -> float:
        return self.used_length / self.train_length

    def scaled_base(self, dims: int, base: float) -> float:
        return base

    def stretch(self, dims: int, base: float) -> tuple[float, ...]:
        """The factor of every pair's frequency, dims / 2 of them, each from 1 / ratio to 1."""
        return tuple(self._factor(2 * i / dims, base) for i in range(dims // 2))

    @property
    def magnitude(self) -> float:
        """What queries and keys are multiplied by, so that logits grow by its square."""
        return 1.0 + 0.1 * math.log(self.ratio) if self.ramp == "wavelength" else 1.0

    def _factor(self, exponent: float, base: float) -> float:
        if self.ramp == "index":
            return float(1 / (1 + _clamped((exponent - 0.25) / 0.75) * (self.ratio - 1)))
        turns = self.train_length * base**-exponent / (2 * math.pi)
        keep = _clamped((turns - SLOW) / (FAST - SLOW))
        return float((1 - keep) / self.ratio + keep)


def _clamped(x: float) -> float:
    return min(max(x, 0.0), 1.0)
