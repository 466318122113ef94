"""Artifact bytes as predicted before training against what packing comes to, over many configs.

    python -m benchmarks.cost_model --store STORE

The trained models of `benchmarks.models` under several grids and packers; the newest record's published size.
"""

import argparse
import sys

import torch

from benchmarks.models import MODELS, STORE
from benchmarks.rate_distortion import Bench
from pgolf.estimate import artifact_bytes, vocab_size
from pgolf.model.gpt import Gpt
from pgolf.pack.bundle import bundle, unneeded
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.quant_gate import QuantGate
from pgolf.quantize.sd_clip import SdClip
from pgolf.records import PUBLISHED, pr1855
from pgolf.run import RunConfig, parse_config
from pgolf.stage import Store

GRIDS = {
    "int6/int8": RoleGrids(),
    "int6/int7, records' clips": RoleGrids(
        embedding=SdClip(bits=7, clip_sigmas=14.0),
        attention=SdClip(bits=6, clip_sigmas=13.0),
        mlp=SdClip(bits=6, clip_sigmas=11.5),
        gate=QuantGate(),
    ),
    "int5, wide": RoleGrids(
        embedding=SdClip(bits=6, clip_sigmas=12.0),
        attention=SdClip(bits=5, clip_sigmas=10.0),
        mlp=SdClip(bits=5, clip_sigmas=9.0),
    ),
    "int8, fine": RoleGrids(
        embedding=SdClip(bits=8, clip_sigmas=12.0),
        attention=SdClip(bits=8, clip_sigmas=14.0),
        mlp=SdClip(bits=8, clip_sigmas=16.0),
    ),
}
PACKERS = ("ans", "brotli")


def cost_model(store: Store) -> dict[str, float]:
    """Predicted over measured bytes, by model, grid and packer; of the published record too."""
    rows: dict[str, float] = {}
    for name, make in MODELS.items():
        bench = Bench.load(name, store, 1)
        for label, grids in GRIDS.items():
            quantize = Gptq(grids=grids)
            model = bench.model(quantize.quantize_all(bench.problem(1)))
            for packer in PACKERS:
                config = parse_config(
                    {**make().plain(), "quantize": quantize.plain(), "pack": {"kind": packer}}
                )
                predicted = artifact_bytes(config, _network(config))
                measured = packed_bytes(model, config.pack) + len(
                    bundle(config.model, config.evaluate, unneeded(packer))
                )
                rows[f"{name}, {label}, {packer}"] = predicted / measured
    record = pr1855()
    rows["pr1855, published"] = (
        artifact_bytes(record, _network(record)) / PUBLISHED["pr1855"]["artifact_bytes"]
    )
    return rows


def _network(config: RunConfig) -> Gpt:
    with torch.device("meta"):
        return config.model.build(vocab_size(config))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_model")
    parser.add_argument("--store", default=STORE)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name, ratio in cost_model(Store(given.store)).items():
        print(f"{name:<44} predicted over measured {ratio:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
