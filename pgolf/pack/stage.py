"""The pack stage: codes in, the artifact out, read back and compared before it counts.

The code is an input like any other: the bundle of this trial, made and kept by a stage of its own. When a module
that scoring reaches changes, its file and its bytes do, and both are counted anew.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pgolf.formats.blob import ARTIFACT, decode, encode
from pgolf.formats.quantized import QuantizedModel, same
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.bundle import BUNDLE, bundle, sources_digest, unneeded
from pgolf.pack.layout import sorted_hidden
from pgolf.pack.lzma_packer import LzmaPacker
from pgolf.pack.zpaq_packer import ZpaqPacker
from pgolf.pack.zstd_packer import ZstdPacker
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Artifact, Metrics, Stage, Store

Packer = Annotated[
    AnsPacker | BrotliPacker | LzmaPacker | ZstdPacker | ZpaqPacker, Field(discriminator="kind")
]


def _pack(quantized: Path, code: Path, *, out: Path, runtime: Runtime, pack: Packer) -> Metrics:
    model = sorted_hidden(QuantizedModel.read(quantized))
    data = encode(model, pack.codec())
    differs = same(model, decode(data))
    assert differs is None, f"the artifact read back is not the model that went in: {differs}"
    (out / ARTIFACT).write_bytes(data)
    size = (code / BUNDLE).stat().st_size
    return {"model_bytes": len(data), "code_bytes": size, "artifact_bytes": len(data) + size}


def packed_bytes(model: QuantizedModel, pack: Packer) -> int:
    """What the artifact file of a model will measure."""
    return len(encode(sorted_hidden(model), pack.codec()))


def _bundle(
    _sources: Path,
    *,
    out: Path,
    runtime: Runtime,
    model: Section,
    evaluate: Section,
    pack: Packer,
) -> Metrics:
    (out / BUNDLE).write_bytes(bundle(model, evaluate, unneeded(pack.kind)))
    return {"code_bytes": (out / BUNDLE).stat().st_size}


def code_artifact(
    store: Store, runtime: Runtime, *, model: Section, evaluate: Section, pack: Packer
) -> Artifact:
    """The bundle of a trial as an input of the pack stage: made again where a source that it may hold changed."""
    sources = Artifact(Path(), sources_digest())
    kind = type(pack)()  # how hard it packs is no matter of code
    return BUNDLED(store, sources, runtime=runtime, model=model, evaluate=evaluate, pack=kind)


BUNDLED = Stage("bundle", 1, _bundle)
PACK = Stage("pack", 2, _pack)
