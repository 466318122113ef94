"""The newest record's shape, quantized and packed whole on a CPU: seconds and memory.

    python -m benchmarks.full_size [--form fisher_rows] [--packer ans]

35.9 M weights drawn so that rows and columns differ in variance as trained ones do, with Gram matrices of
correlated inputs; solved for the competition's cap with real packed bytes. One thread.
"""

import argparse
import json
import sys
import time

import torch
from torch import Tensor

from pgolf.formats.blob import decode, encode
from pgolf.formats.quantized import Matrix, QuantizedModel, same
from pgolf.model.gpt import Gpt
from pgolf.model.roles import Role
from pgolf.quantize.forms import FisherGrid, FisherRows, TensorClips, TwoSided, TypeClips
from pgolf.quantize.problem import Problem
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.statistics import Statistics
from pgolf.records import pr1855
from pgolf.run import RunConfig, parse_config
from pgolf.runtime import peak_memory_bytes

VOCAB = 8192
FORMS = {form.kind: form for form in (TypeClips(), TensorClips(), FisherRows(), FisherGrid(), TwoSided())}


def pretended(config: RunConfig, seed: int = 0) -> tuple[Gpt, dict[str, Tensor], Statistics]:
    """A network of the config's shape, weights as if trained, statistics as if collected."""
    with torch.device("meta"):
        network = config.model.build(VOCAB)
    g = torch.Generator().manual_seed(seed)
    weights, hessians, rows, full = {}, {}, {}, {}
    for name, p in network.named_parameters():
        w = torch.randn(p.shape, generator=g) * 0.04
        role = network.roles[name]
        if role.is_matrix or role is Role.GATE:
            columns = (torch.randn(p.shape[1], generator=g) * 0.25).exp()
            w = w * (torch.randn(p.shape[0], 1, generator=g) * 0.2).exp() * columns.clamp(0.4, 2.5)
            mix = torch.randn(p.shape[1], 64, generator=g)
            hessians[name] = mix @ mix.T / 64 + torch.diag(columns.square())
            rows[name] = (torch.randn(p.shape[0], generator=g) * 0.7).exp() * 1e-3
            if role in (Role.ATTENTION, Role.MLP):
                out = torch.randn(p.shape[0], 64, generator=g) * rows[name].sqrt().unsqueeze(1)
                full[name] = out @ out.T / 128 + torch.diag(rows[name] / 2)
        weights[name] = w
    return network, weights, Statistics(hessians, {}, rows, full)


def full_size(
    form: str = "fisher_rows", packer: str = "ans", artifact_bytes: int = 15_960_000
) -> dict[str, float]:
    """Solve and pack; the artifact read back equal."""
    base = pr1855()
    config = parse_config({**base.plain(), "pack": {"kind": packer}})
    network, weights, statistics = pretended(config)
    candidates = {n: w for n, w in weights.items() if n in statistics.rows}
    rest = {n: w.half() for n, w in weights.items() if n not in candidates}
    passes: list[float] = []

    def model(matrices: dict[str, Matrix]) -> QuantizedModel:
        kept = {n: network.roles[n].value for n in matrices}
        return QuantizedModel(config.model.plain(), VOCAB, matrices, kept, rest)

    def measure(matrices: dict[str, Matrix]) -> int:
        began = time.perf_counter()
        size = len(encode(model(matrices), config.pack.codec()))
        passes.append(time.perf_counter() - began)
        print(
            f"  {size:,} bytes, packed in {passes[-1]:.1f} s, {peak_memory_bytes('cpu') / 2**30:.2f} GiB",
            flush=True,
        )
        return size

    began = time.perf_counter()
    problem = Problem(candidates, network.roles, statistics, measure, artifact_bytes)
    matrices = RateDistortion(form=FORMS[form]).quantize_all(problem)
    solved = time.perf_counter() - began
    data = encode(model(matrices), config.pack.codec())
    packed = time.perf_counter() - began - solved
    again = decode(data)
    read = time.perf_counter() - began - solved - packed
    assert same(again, model(matrices)) is None
    return {
        "weights": float(sum(w.numel() for w in candidates.values())),
        "artifact_bytes": float(len(data)),
        "of_target": len(data) / artifact_bytes,
        "solve_seconds": solved,
        "of_which_packing_seconds": sum(passes),
        "solver_passes": float(len(passes) - 1),
        "pack_seconds": packed,
        "decode_seconds": read,
        "total_seconds": solved + packed + read,
        "peak_memory_bytes": float(peak_memory_bytes("cpu")),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size")
    parser.add_argument("--form", default="fisher_rows", choices=FORMS)
    parser.add_argument("--packer", default="ans")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(json.dumps(full_size(given.form, given.packer), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
