"""LZMA from the standard library: the packer of the spring records, kept to compare Brotli with."""

import lzma
from typing import ClassVar, Literal

from pydantic import Field

from pgolf.formats.blob import Codec
from pgolf.formats.byte_codec import encode_bytes
from pgolf.pack.cost import Cost
from pgolf.section import Section


class LzmaPacker(Section):
    COST: ClassVar[Cost] = Cost(1.045, 0.45)
    kind: Literal["lzma"] = "lzma"
    preset: int = Field(9, ge=0, le=9)
    transpose: bool = False  # codes column by column: pays where column variances differ

    def codec(self) -> Codec:
        preset = self.preset | lzma.PRESET_EXTREME

        def compress(data: bytes) -> bytes:
            return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, preset)

        return Codec("lzma", lambda arrays, groups: encode_bytes(arrays, groups, compress, self.transpose))
