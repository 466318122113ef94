"""ZPAQ through the program lrzip, a file a group: the community's best before weights had a coder of their own.

The program has to be installed wherever an artifact is packed or scored (`apt-get install lrzip`); without it
the trial is refused with that message. PR 1855 packs this way; its similarity sort of rows, whose permutations
cost what they gain once steps follow the Fisher, is left out.
"""

from typing import ClassVar, Literal

from pgolf.formats.blob import Codec
from pgolf.formats.byte_codec import encode_bytes, zpaq
from pgolf.pack.cost import Cost
from pgolf.section import Section


class ZpaqPacker(Section):
    COST: ClassVar[Cost] = Cost(0.995, 0.3)
    kind: Literal["zpaq"] = "zpaq"
    transpose: bool = True  # codes column by column: contexts then see one column's variance

    def codec(self) -> Codec:
        return Codec("zpaq", lambda arrays, groups: encode_bytes(
            arrays, groups, lambda data: zpaq(data, ["-z", "-L", "9"]), self.transpose
        ))  # fmt: skip
