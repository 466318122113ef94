"""One rank of a gang, for the tests: `torchrun ... -m tests.quantize.gang TOKENS CHECKPOINT STATISTICS OUT`.

Calibrates, then quantizes by every section below on statistics that are given, all in the store OUT/store, and
writes what each stage handed to rank r to OUT/r.json.
"""

import json
import sys
from functools import partial
from pathlib import Path

from pgolf.errors import InfeasibleTrial
from pgolf.pack.brotli_packer import BrotliPacker
from pgolf.pack.stage import packed_bytes
from pgolf.quantize.calibrate import CALIBRATE, Calibrate, Fisher
from pgolf.quantize.forms import FisherRows, TypeClips
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.lqer import Lqer, Symmetric
from pgolf.quantize.problem import QuantizerSection
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.self_generated import SelfGenerated
from pgolf.quantize.stage import quantize_stage
from pgolf.rules import Gang
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store

PACK = BrotliPacker(quality=2)
TARGET = (
    12_000  # bytes of the artifact: some four bits a weight of the network in tests/quantize/test_gang.py
)
CALIBRATIONS = {
    "text": Calibrate(tokens=7 * 16, context=16, fisher=Fisher(tokens=5 * 16, full=True)),
    "one_row": Calibrate(tokens=16, context=16, fisher=Fisher(tokens=16)),
    "written": Calibrate(tokens=5 * 16, context=16, source=SelfGenerated(), fisher=Fisher(tokens=5 * 16)),
}
QUANTIZERS: dict[str, QuantizerSection] = {
    "rtn": Rtn(),
    "gptq": Gptq(),
    "fisher_grid": RateDistortion(target_bytes=TARGET),
    "fisher_rows": RateDistortion(form=FisherRows(), target_bytes=TARGET),
    "type_clips": RateDistortion(form=TypeClips(), target_bytes=TARGET),
    "lqer": Lqer(base=RateDistortion(target_bytes=TARGET), packing=Symmetric()),
    "too_small": RateDistortion(target_bytes=100),
}


def work(tokens: Path, checkpoint: Path, statistics: Path, out: Path, runtime: Runtime) -> dict[str, str]:
    """What every stage came to: the digest of its artifact, or why there is none."""
    store, made = Store(out / "store"), {}
    inputs = [
        Artifact(checkpoint, "checkpoint"),
        Artifact(tokens, "tokens"),
        Artifact(statistics, "statistics"),
    ]
    for name, section in CALIBRATIONS.items():
        made[name] = CALIBRATE(store, *inputs[:2], runtime=runtime, seed=3, calibrate=section).digest
    stage = quantize_stage(partial(packed_bytes, pack=PACK))
    for name, quantizer in QUANTIZERS.items():
        try:
            made[name] = stage(
                store, inputs[0], inputs[2], runtime=runtime, quantize=quantizer, pack=PACK
            ).digest
        except InfeasibleTrial as stopped:
            made[name] = stopped.outcome.reason
    return made


def main(*paths: str) -> None:
    tokens, checkpoint, statistics, out = map(Path, paths)
    runtime = Runtime.local(Gang(ranks=2))
    with runtime.joined():
        made = work(tokens, checkpoint, statistics, out, runtime)
    (out / f"{runtime.rank}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
