"""The pack stage: codes in, the artifact out, read back and compared before it counts.

The code is an input like any other: when a module that scoring imports changes, bytes are counted anew.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from pgolf.formats.blob import ARTIFACT, decode, encode
from pgolf.formats.quantized import QuantizedModel
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.code import compressed_source
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Metrics, Stage

Packer = Annotated[BrotliPacker | LzmaPacker, Field(discriminator="kind")]


def _pack(
    quantized: Path, _code: Path, *, out: Path, runtime: Runtime, pack: BrotliPacker | LzmaPacker
) -> Metrics:
    model = QuantizedModel.read(quantized)
    data = encode(model, pack.codec(), pack.transpose)
    _equal(model, decode(data))
    (out / ARTIFACT).write_bytes(data)
    code = len(compressed_source())
    return {"model_bytes": len(data), "code_bytes": code, "artifact_bytes": len(data) + code}


def _equal(a: QuantizedModel, b: QuantizedModel) -> None:
    """The artifact read back is the model that went in, bit for bit."""
    assert a.matrices.keys() == b.matrices.keys() and a.rest.keys() == b.rest.keys()
    for name, m in a.matrices.items():
        assert torch.equal(m.q, b.matrices[name].q) and torch.equal(m.step, b.matrices[name].step), name
    for name, t in a.rest.items():
        assert torch.equal(t, b.rest[name]), name


def code_artifact() -> Artifact:
    """The code as a stage input, identified by its content."""
    return Artifact(Path(), hashlib.sha256(compressed_source()).hexdigest())


PACK = Stage("pack", 1, _pack)
