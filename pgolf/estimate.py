"""What a config will weigh, before any training: parameters and artifact bytes.

    bits per weight ~ 2.047 + log2(qmax / clip_sigmas)        (a Gaussian cut into steps of clip/qmax sigmas)

plus two bytes for every row's step and every float16 value that is left, plus the code. Within 1 % of
the records' logs at full scale (reference formula of SDClip); small models' rows are less Gaussian.
"""

import math
from pathlib import Path

import torch

from pgolf.data.source import PythonStdlib
from pgolf.data.tokenizer import Tokenizer
from pgolf.pack.code import compressed_source
from pgolf.run import RunConfig


def vocab_size(config: RunConfig) -> int:
    """The vocabulary a config will train with. Raises DataError if its tokenizer cannot be read."""
    if isinstance(config.data, PythonStdlib):
        return config.data.tokenizer.vocab_size

    return Tokenizer.load(Path(config.data.tokenizer)).vocab_size


def estimate(config: RunConfig) -> dict[str, int]:
    """`params` exactly, `predicted_artifact_bytes` by the formula above."""
    with torch.device("meta"):
        network = config.model.build(vocab_size(config))
    bits = 0.0
    for name, p in network.named_parameters():
        role = network.roles[name]
        if role.is_matrix:
            grid = config.quantize.grids.of(role)
            per_weight = max(2.047 + math.log2(grid.qmax / grid.clip_sigmas), 0.0)
            bits += p.numel() * min(per_weight, 8.0) + 16 * p.shape[0]
        else:
            bits += 16 * p.numel()
    return {
        "params": network.params,
        "predicted_artifact_bytes": int(bits / 8) + len(compressed_source()),
    }
