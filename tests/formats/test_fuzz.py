"""The container's reader against 10,000 mutated files: each is refused, or is a model of what it claims.

Half of them are signed anew after they were altered, since a checksum stops accidents and no forger. What they
may cost is bounded too: bombs are opened by a process that may take 200 MB.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pgolf.errors import DataError
from pgolf.formats.blob import HALVES, decode, encode
from pgolf.formats.quantized import COARSEST, FINEST
from pgolf.pack.ans_coding import encode_arrays
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from tests.formats.forge import forged, opened, resized
from tests.formats.mutations import BYTES
from tests.formats.samples import quantized

ROOT = Path(__file__).resolve().parents[2]


def child(module: str) -> dict[str, Any]:
    """What a module of this folder prints when it is run."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.formats.{module}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_ten_thousand_mutated_artifacts_are_refused_or_are_what_they_claim():
    outcomes = child("mutations")
    assert sum(map(sum, outcomes.values())) == 10_000
    for welcome, refused in outcomes.values():
        assert 0 < welcome < refused / 4, "forged steps and halves open, broken ones do not"


def test_no_altered_file_opens_unsigned(tiny_trial):
    whole = (tiny_trial.stage("pack") / "artifact.bin").read_bytes()
    rng = random.Random("unsigned")
    for _ in range(300):
        spoilt = rng.choice(BYTES)(whole, rng)
        if spoilt != whole:
            with pytest.raises(DataError):
                decode(spoilt)


def test_a_small_file_that_claims_to_hold_much_is_refused_in_little_memory():
    outcomes = child("bombs")
    assert len(outcomes) > 15
    assert set(outcomes.values()) == {"refused"}, outcomes


def test_what_may_not_be_is_refused_by_name():
    header, codes, halves = opened(encode(quantized(), BrotliPacker().codec()))
    a, b, *others = header["matrices"]
    for change, words in {
        "a name is given twice": {"matrices": [a, b, *others[:-1], [others[0][0], *others[-1][1:]]]},
        "a name is given  twice": {"rest": [["a.w", [10]], *header["rest"][1:]]},
        "names and roles are words": {"matrices": [[7, *a[1:]], b, *others]},
        "names and roles are  words": {"matrices": [[a[0], None, a[2]], b, *others]},
        "a config is a mapping": {"model": []},
        "a vocabulary has a size": {"vocab_size": "300"},
        "codec is known": {"codec": "neural"},
        "lengths": {"sizes": [len(codes), len(halves) - 1]},
        "no matrix is made up": {"matrices": [[*a[:2], ["square", 6, 10, False]], b, *others]},
        "an axis is": {"rest": [["x", [10.0]], *header["rest"][1:]]},
        "an axis is 0": {"rest": [["x", [-10]], *header["rest"][1:]]},
        "float16 values": {"rest": [["x", [11]], *header["rest"][1:]]},
    }.items():
        with pytest.raises(DataError, match=change.replace("  ", " ")):
            decode(forged({**header, **words}, codes, halves))


@pytest.mark.parametrize("step", [FINEST - 1, COARSEST + 1, 32_767, -32_768])
@pytest.mark.parametrize("part", ["row", "col"])
def test_a_step_that_none_can_be_is_refused(step, part):
    model = quantized()
    m = model.matrices["b.w"]
    m.arrays()[part][2] = step
    with pytest.raises(DataError, match="steps beyond"):
        decode(encode(model, AnsPacker().codec()))


def test_codes_beyond_int16_are_refused():
    model = quantized()
    header, _, halves = opened(encode(model, AnsPacker().codec()))
    wide = [a.numpy().astype(np.int32) for _, part, a in model.arrays() if part != HALVES]
    next(a for a in wide if a.ndim == 2)[3, 4] = 40_000
    with pytest.raises(DataError, match="beyond int16"):
        decode(resized(header, encode_arrays(wide), halves))
