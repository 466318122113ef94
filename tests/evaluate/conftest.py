"""An artifact and a token directory that nothing trained, laid out as a store would."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory <root>/pack/key with the artifact of a random network, quantized and packed."""
    from pgolf.formats.blob import ARTIFACT, encode
    from pgolf.formats.quantized import QuantizedModel
    from pgolf.pack.brotli_packer import BrotliPacker
    from pgolf.quantize.rtn import Rtn
    from tests.nets import network, small

    config, quantize = small(), Rtn()
    built = network(config)
    weights = {n: p.detach() for n, p in built.named_parameters()}
    matrices = {n: quantize.quantize(w, quantize.grids.of(built.roles[n])) for n, w in weights.items()
                if built.roles[n].is_matrix}  # fmt: skip
    rest = {n: w.half() for n, w in weights.items() if n not in matrices}
    roles = {n: built.roles[n].value for n in matrices}
    model = QuantizedModel(config.plain(), built.vocab_size, matrices, roles, rest)
    home = tmp_path_factory.mktemp("store") / "pack" / "key"
    home.mkdir(parents=True)
    (home / ARTIFACT).write_bytes(encode(model, BrotliPacker().codec()))
    return home


@pytest.fixture(scope="session")
def tokens(packed: Path) -> Path:
    """The token directory beside it: 300 tokens in documents of every length."""
    from pgolf.formats.shards import shard_name, sidecar_name, write_shard
    from tests.nets import stream

    home = packed.parent.parent / "tokenize" / "key"
    home.mkdir(parents=True)
    for seed, split in enumerate(("train", "select", "validation")):
        ids = stream(seed, 300, 40)[0].numpy().astype(np.uint16)
        write_shard(home / shard_name(split), ids)
        write_shard(home / sidecar_name(split), np.where(ids == 1, 0, ids % 5 + 1).astype(np.uint16))
    return home
