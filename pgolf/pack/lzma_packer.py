"""LZMA from the standard library: the packer of the spring records, kept to compare Brotli with."""

import lzma
from typing import Literal

from pydantic import Field

from pgolf.formats.blob import Codec
from pgolf.section import Section


class LzmaPacker(Section):
    kind: Literal["lzma"] = "lzma"
    preset: int = Field(9, ge=0, le=9)
    transpose: bool = False  # codes column by column: pays where column variances differ

    def codec(self) -> Codec:
        preset = self.preset | lzma.PRESET_EXTREME
        return Codec("lzma", lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, preset))
