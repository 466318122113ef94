"""What a config will cost, before any training: parameters, FLOPs, memory, time per step, artifact bytes.

    FLOPs per token   6 P + 12 blocks width T      P: matrix weights applied per token, T: mean context read
    ms per step       batch tokens x FLOPs / (GPUs x achieved FLOP/s)
    bytes             entropy of a Gaussian on each role's grid, 2 bytes a row step and a float16 value, the code
    peak memory       24 bytes a parameter + tokens at once x (2 (14 width + 2 hidden) per block + 4 vocabulary)

Time and memory are fitted to the published logs of the record stacks on 8xH100: ms per step within 10 % from
PR 315 to PR 1855 (the first baseline, with older kernels, took 30 % longer than this says), peak memory from
2 % to 20 % above the logs. A GPU with another peak is scaled by it. Bytes are within 2 % of the logs of the
stacks that use these grids; small models' short rows are less Gaussian.
"""

import math
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from pgolf.data.packed import Packed
from pgolf.data.source import PythonStdlib
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import ConfigError, Infeasible, nearest
from pgolf.model.gpt import Gpt
from pgolf.model.roles import Role
from pgolf.pack.cost import BYTE_PIECES
from pgolf.pack.program import file_of
from pgolf.run import RunConfig
from pgolf.section import Section
from pgolf.train.budget import Seconds

ACHIEVED_ON_H100 = 255e12  # FLOP/s per GPU that the record stacks reach
H100_PEAK = 989e12
CODE_BYTES = 11_000  # of a bundle: what each has
ADAPTING_CODE_BYTES = 6_300  # and what adapters and a memory add, of laptop_adapted
CODE_PER_SOURCE = 0.077  # and what a byte of a technique's source adds
PACKED_CONTEXT = 1024  # tokens: what a packed row's documents (about 800 tokens each) leave to be read


@dataclass(frozen=True)
class Gpu:
    """Dense bfloat16 peak (FLOP/s) and memory (bytes), from the vendors' data sheets."""

    peak_flops: float
    memory_bytes: float


GPUS = {
    "H100": Gpu(H100_PEAK, 80e9),
    "H200": Gpu(H100_PEAK, 141e9),
    "A100": Gpu(312e12, 80e9),
    "L40S": Gpu(362e12, 48e9),
    "RTX 4090": Gpu(165e12, 24e9),
}
# Predictions are not promises: only what is this far beyond a limit is refused untrained.
IMPOSSIBLE = {"artifact_bytes": 1.25, "peak_memory_bytes": 1.25, "train_seconds": 2.0}


@dataclass(frozen=True)
class Estimate:
    """Times are None where no GPU is named (a CPU's are not predicted)."""

    params: int
    predicted_artifact_bytes: int
    train_flops_per_token: float  # with everything on
    predicted_peak_memory_bytes: int  # per rank
    predicted_ms_per_step: float | None  # with everything on
    predicted_steps: int | None
    predicted_train_seconds: float | None

    def plain(self) -> dict[str, float | int | None]:
        return asdict(self)


def vocab_size(config: RunConfig) -> int:
    """The vocabulary a config will train with. Raises DataError if its tokenizer cannot be read."""
    if isinstance(config.data, PythonStdlib):
        return config.data.tokenizer.vocab_size
    if config.data.vocab_size is not None:
        return config.data.vocab_size
    return Tokenizer.load(Path(config.data.tokenizer)).vocab_size


def estimate(config: RunConfig, gpu: str | None = None) -> Estimate:
    """Predict on a named GPU; None: the one the profile's gang names, if it names one.

    Raises:
        ConfigError: if the GPU is not known.
        DataError: if the tokenizer that decides the vocabulary cannot be read.
    """
    with torch.device("meta"):
        network = config.model.build(vocab_size(config))
    on = named_gpu(gpu or config.rules.gang.gpu)
    times = (None, None, None) if on is None else _times(config, network, on)
    return Estimate(
        network.params,
        artifact_bytes(config, network),
        train_flops_per_token(config, network),
        peak_memory_bytes(config, network),
        *times,
    )


def named_gpu(name: str | None) -> Gpu | None:
    """A GPU by name. Raises ConfigError naming the nearest."""
    if name is not None and name not in GPUS:
        raise ConfigError("times are predicted for a GPU that is known", name, nearest(name, GPUS))
    return GPUS[name] if name else None


def impossible(config: RunConfig) -> list[Infeasible]:
    """The limits that a config is predicted to miss by far: such a trial is refused untrained."""
    e, rules = estimate(config), config.rules
    on = named_gpu(rules.gang.gpu)
    limits = {
        "artifact_bytes": (e.predicted_artifact_bytes, rules.artifact_bytes),
        "peak_memory_bytes": (e.predicted_peak_memory_bytes, on.memory_bytes if on else math.inf),
        "train_seconds": (e.predicted_train_seconds or 0.0, rules.train_seconds),
    }
    return [
        Infeasible(reason=f"predicted_{name}", measured=predicted, limit=limit)
        for name, (predicted, limit) in limits.items()
        if predicted > limit * IMPOSSIBLE[name]
    ]


def artifact_bytes(config: RunConfig, network: Gpt) -> int:
    """Coded weights, steps, float16 remainder and code; of a quantizer that solves for bytes, what it is given."""
    bits, cost = 0.0, config.pack.COST
    for name, p in network.named_parameters():
        role = network.roles[name]
        coded = role.is_matrix or role is Role.GATE
        bits += cost.coded * config.quantize.expected_bits(role, *p.shape) if coded else 16 * p.numel()
        if role is Role.EMBEDDING:
            unmet = min(BYTE_PIECES, p.shape[0] // 2)
            bits -= cost.unmet * config.quantize.expected_bits(role, unmet, p.shape[1])
    least = int(bits / 8) + (code_bytes(config.model) + ADAPTING_CODE_BYTES * config.evaluate.adaptive)
    return config.quantize.expected_artifact_bytes(least, config.rules.artifact_bytes)


def code_bytes(model: Section) -> int:
    """Of the bundle, which takes a second to make: by the sources of the techniques that are on."""
    modules = {type(section).__module__ for section in model.held()}
    return int(CODE_BYTES + CODE_PER_SOURCE * sum(_source_bytes(module) for module in modules))


@cache
def _source_bytes(module: str) -> int:
    file = file_of(module)
    return file.stat().st_size if file else 0


def train_flops_per_token(config: RunConfig, network: Gpt) -> float:
    """Forward and backward, per trained token, with what the network has switched on."""
    applied: dict[str, int] = {"": 0}
    for name, p in network.named_parameters():
        if network.roles[name].is_matrix and network.roles[name] is not Role.TABLE:
            block = name.split(".")[1] if name.startswith("blocks.") else ""
            applied[block] = applied.get(block, 0) + p.numel()
    matrices = applied[""] + sum(applied[str(network.uses[layer])] for layer in network.order)
    return 6.0 * matrices + 12.0 * len(network.order) * config.model.width * mean_context(config)


def mean_context(config: RunConfig) -> float:
    """Positions that attention reads on average. A packed row is cut at documents (about 800 tokens each)."""
    packed = isinstance(config.train.loader, Packed)
    return (min(config.train.context, PACKED_CONTEXT) if packed else config.train.context) / 2


def peak_memory_bytes(config: RunConfig, network: Gpt) -> int:
    """Weights, gradients, moments and average; activations of the rows computed at once, on one rank."""
    c = config.model
    ranks = config.rules.gang.ranks
    rows = min(config.train.forward_rows, config.train.rows // ranks)
    at_once = rows * config.train.row_tokens
    per_block = 2 * (14 * c.width + 2 * c.mlp.hidden(c.width))
    activations = at_once * (len(network.order) * per_block + 4 * network.vocab_size)
    return int(24 * network.params + activations)


def _times(config: RunConfig, network: Gpt, gpu: Gpu) -> tuple[float, int, float]:
    """ms per step with everything on; steps; training seconds."""
    gang, budget = config.rules.gang, config.train.budget
    rate = gang.ranks * ACHIEVED_ON_H100 * gpu.peak_flops / H100_PEAK

    def seconds_per_step(progress: float) -> float:
        network.set_progress(progress)
        return config.train.batch_tokens * train_flops_per_token(config, network) / rate

    bounds = [0.0, *(f for f in network.switches() if f > 0), 1.0]
    phases = [(end - begin, seconds_per_step(begin)) for begin, end in pairwise(bounds)]
    last = seconds_per_step(1.0)
    if isinstance(budget, Seconds):
        seconds = budget.seconds - budget.reserve_seconds
        steps = sum(share * seconds / each for share, each in phases)
        return 1000 * last, int(steps), seconds
    return 1000 * last, budget.steps, sum(share * budget.steps * each for share, each in phases)
