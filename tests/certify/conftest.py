"""A store with everything a certificate reads: a tokenizer, documents, and a random network, packed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pgolf.data.sentence_piece import Tokenizer

WORDS = "the law of the ledger is that every target counts once and every byte is text".split()  # noqa: SIM905


@dataclass(frozen=True)
class Scored:
    """Directories of one small deployment."""

    root: Path
    packed: Path
    tokens: Path


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    from pgolf.data.sp_bpe import SpBpe

    rng = np.random.Generator(np.random.PCG64(0))
    documents = [" ".join(rng.choice(WORDS, size=n)).encode() for n in rng.integers(3, 40, size=60)]
    model = SpBpe(vocab_size=300, character_coverage=1.0).train(documents)
    return deploy(tmp_path_factory.mktemp("deployed"), model, documents)


def deploy(root: Path, model: "Tokenizer", documents: list[bytes]) -> Scored:
    """A random network over a tokenizer's documents, as its stages would leave it."""
    from pgolf.data.source import TOKENIZER
    from pgolf.formats.blob import ARTIFACT, encode
    from pgolf.formats.quantized import QuantizedModel
    from pgolf.formats.shards import shard_name, sidecar_name, write_shard
    from pgolf.pack.brotli_packer import BrotliPacker
    from pgolf.quantize.rtn import Rtn
    from tests.nets import network, small

    packed, tokens = root / "pack" / "key", root / "tokenize" / "key"
    packed.mkdir(parents=True)
    tokens.mkdir(parents=True)
    (tokens / TOKENIZER).write_bytes(model.model)
    splits = {
        "train": [d for d in documents if d not in documents[9:21]],
        "select": documents[:9],
        "validation": documents[9:21],
    }
    for split, chosen in splits.items():
        ids = model.stream(chosen)
        write_shard(tokens / shard_name(split), ids)
        write_shard(tokens / sidecar_name(split), model.byte_counts(ids))
    config, grids = small(), Rtn().grids
    built = network(config, vocab_size=model.vocab_size)
    weights = {n: p.detach() for n, p in built.named_parameters()}
    roles = {n: role for n, role in built.roles.items() if role.is_matrix}
    matrices = {n: Rtn().quantize(weights[n], grids.of(role)) for n, role in roles.items()}
    rest = {n: w.half() for n, w in weights.items() if n not in roles}
    quantized = QuantizedModel(
        config.plain(), model.vocab_size, matrices, {n: r.value for n, r in roles.items()}, rest
    )
    (packed / ARTIFACT).write_bytes(encode(quantized, BrotliPacker().codec()))
    return Scored(root, packed, tokens)
