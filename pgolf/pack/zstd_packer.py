"""Zstandard at its hardest level: 1 to 2 % behind Brotli on weights, kept to compare with."""

from typing import ClassVar, Literal

import zstandard
from pydantic import Field

from pgolf.formats.blob import Codec
from pgolf.formats.byte_codec import encode_bytes
from pgolf.pack.cost import Cost
from pgolf.section import Section


class ZstdPacker(Section):
    COST: ClassVar[Cost] = Cost(1.018, 0.35)
    kind: Literal["zstd"] = "zstd"
    level: int = Field(22, ge=1, le=22)
    transpose: bool = False  # codes column by column: pays where column variances differ

    def codec(self) -> Codec:
        compress = zstandard.ZstdCompressor(level=self.level).compress
        return Codec("zstd", lambda arrays, groups: encode_bytes(arrays, groups, compress, self.transpose))
