"""Brotli: within about 1 % of the codes' own entropy at quality 11, and decodes in a blink."""

from typing import ClassVar, Literal

import brotli
from pydantic import Field

from pgolf.formats.blob import Codec
from pgolf.formats.byte_codec import encode_bytes
from pgolf.pack.cost import Cost
from pgolf.section import Section


class BrotliPacker(Section):
    COST: ClassVar[Cost] = Cost(1.012, 0.35)
    kind: Literal["brotli"] = "brotli"
    quality: int = Field(11, ge=0, le=11)
    window_bits: int = Field(24, ge=10, le=24)
    transpose: bool = False  # codes column by column: pays where column variances differ

    def codec(self) -> Codec:
        def compress(data: bytes) -> bytes:
            return bytes(brotli.compress(data, quality=self.quality, lgwin=self.window_bits))

        return Codec("brotli", lambda arrays, groups: encode_bytes(arrays, groups, compress, self.transpose))
