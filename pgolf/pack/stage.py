"""The pack stage: codes in, the artifact out, read back and compared before it counts.

The code is an input like any other: when a module that scoring imports changes, bytes are counted anew.
"""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pgolf.formats.blob import ARTIFACT, decode, encode
from pgolf.formats.quantized import QuantizedModel, same
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.code import compressed_source
from pgolf.pack.layout import sorted_hidden
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.zpaq_packer import ZpaqPacker
from pgolf.pack.zstd_packer import ZstdPacker
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Metrics, Stage

Packer = Annotated[
    AnsPacker | BrotliPacker | LzmaPacker | ZstdPacker | ZpaqPacker, Field(discriminator="kind")
]


def _pack(quantized: Path, _code: Path, *, out: Path, runtime: Runtime, pack: Packer) -> Metrics:
    model = sorted_hidden(QuantizedModel.read(quantized))
    data = encode(model, pack.codec())
    differs = same(model, decode(data))
    assert differs is None, f"the artifact read back is not the model that went in: {differs}"
    (out / ARTIFACT).write_bytes(data)
    code = len(compressed_source())
    return {"model_bytes": len(data), "code_bytes": code, "artifact_bytes": len(data) + code}


def packed_bytes(model: QuantizedModel, pack: Packer) -> int:
    """What the artifact file of a model will measure."""
    return len(encode(sorted_hidden(model), pack.codec()))


def code_artifact() -> Artifact:
    """The code as a stage input, identified by its content."""
    return Artifact(Path(), hashlib.sha256(compressed_source()).hexdigest())


PACK = Stage("pack", 2, _pack)
