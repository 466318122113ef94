"""The two processes of the round trip; the second has only what `decompress` names.

python -m pgolf.certify compress   artifact.bin plan.json coded.bin
python -m pgolf.certify decompress artifact.bin tokenizer.model coded.bin text.bin
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from pgolf.certify.coder import Passage, compress, decompress
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.blob import read_artifact
from pgolf.fresh import leave, seal
from pgolf.model.gpt import assemble


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pgolf.certify", description=__doc__)
    parser.add_argument("--sealed", type=Path, action="append", default=[])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, files in {
        "compress": ("artifact", "plan", "coded"),
        "decompress": ("artifact", "tokenizer", "coded", "text"),
    }.items():
        command = verbs.add_parser(verb)
        for name in files:
            command.add_argument(name, type=Path)
    a = parser.parse_args(argv)
    torch.set_num_threads(1)
    given = [v for k, v in vars(a).items() if k not in ("verb", "sealed")]
    seal(a.sealed, allowed=given)
    packed = read_artifact(a.artifact)
    network = assemble(packed.model, packed.vocab_size, packed.weights(), "cpu")
    if a.verb == "compress":
        plan = json.loads(a.plan.read_text())
        passages = [Passage(p["length"], p["windows"]) for p in plan]
        a.coded.write_bytes(compress(network, passages, [np.array(p["tokens"], np.int64) for p in plan]))
    else:
        tokenizer = Tokenizer.load(a.tokenizer)
        restored = [tokenizer.decode(ids).hex() for ids in decompress(network, a.coded.read_bytes())]
        a.text.write_text(json.dumps(restored))
    return 0


if __name__ == "__main__":
    leave(main)
