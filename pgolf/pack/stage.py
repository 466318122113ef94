"""The pack stage: codes in, the artifact out, read back and compared before it counts.

The code is an input like any other: the bundle of this trial, made and kept by a stage of its own. When a module
that scoring reaches changes, its file and its bytes do, and both are counted anew.
"""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from pgolf.formats.blob import ARTIFACT, decode, encode
from pgolf.formats.quantized import QuantizedModel
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.bundle import BUNDLE, bundle, sources_digest, unneeded
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Artifact, Metrics, Stage, Store

Packer = Annotated[BrotliPacker | LzmaPacker, Field(discriminator="kind")]


def _pack(
    quantized: Path, code: Path, *, out: Path, runtime: Runtime, pack: BrotliPacker | LzmaPacker
) -> Metrics:
    model = QuantizedModel.read(quantized)
    data = encode(model, pack.codec(), pack.transpose)
    _equal(model, decode(data))
    (out / ARTIFACT).write_bytes(data)
    size = (code / BUNDLE).stat().st_size
    return {"model_bytes": len(data), "code_bytes": size, "artifact_bytes": len(data) + size}


def _equal(a: QuantizedModel, b: QuantizedModel) -> None:
    """The artifact read back is the model that went in, bit for bit."""
    assert a.matrices.keys() == b.matrices.keys() and a.rest.keys() == b.rest.keys()
    for name, m in a.matrices.items():
        assert torch.equal(m.q, b.matrices[name].q) and torch.equal(m.step, b.matrices[name].step), name
    for name, t in a.rest.items():
        assert torch.equal(t, b.rest[name]), name


def _bundle(
    _sources: Path,
    *,
    out: Path,
    runtime: Runtime,
    model: Section,
    evaluate: Section,
    pack: BrotliPacker | LzmaPacker,
) -> Metrics:
    (out / BUNDLE).write_bytes(bundle(model, evaluate, unneeded(pack.kind)))
    return {"code_bytes": (out / BUNDLE).stat().st_size}


def code_artifact(
    store: Store, runtime: Runtime, *, model: Section, evaluate: Section, pack: BrotliPacker | LzmaPacker
) -> Artifact:
    """The bundle of a trial as an input of the pack stage: made again where a source that it may hold changed."""
    sources = Artifact(Path(), sources_digest())
    return BUNDLED(store, sources, runtime=runtime, model=model, evaluate=evaluate, pack=pack)


BUNDLED = Stage("bundle", 1, _bundle)
PACK = Stage("pack", 1, _pack)
