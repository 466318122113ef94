"""The two processes of the round trip; the second has only what `decompress` names.

python -m pgolf.certify compress   artifact.bin tokenizer.model tokens.bin coded.bin --evaluate '{...}'
python -m pgolf.certify decompress artifact.bin tokenizer.model coded.bin text.bin
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

from pydantic import TypeAdapter

from pgolf.certify.compressor import Compressor, opened
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.evaluation import Evaluation
from pgolf.formats.shards import read_shard
from pgolf.fresh import leave, seal


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pgolf.certify", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sealed", type=Path, action="append", default=[])
    verbs = parser.add_subparsers(dest="verb", required=True)
    compress, decompress = (verbs.add_parser(verb) for verb in ("compress", "decompress"))
    for command in (compress, decompress):
        for name in ("artifact", "tokenizer", "given", "out"):
            command.add_argument(name, type=Path)
    compress.add_argument("--evaluate", type=TypeAdapter(Evaluation).validate_json, required=True)
    a = parser.parse_args(argv)
    seal(a.sealed, allowed=[a.artifact, a.tokenizer, a.given, a.out])
    if a.verb == "compress":
        ids = read_shard(a.given)
        bounds = [*starts_of(ids).tolist(), len(ids)]
        documents = [ids[b + 1 : e].tolist() for b, e in pairwise(bounds)]
        with a.out.open("wb") as out:
            made = Compressor(a.artifact, a.tokenizer, a.evaluate, threads=1).compress([documents], out)
        print(json.dumps({"text_bytes": made.text_bytes, "coded_bytes": made.coded_bytes,
                          "file_bytes": made.file_bytes}))  # fmt: skip
    else:
        with a.given.open("rb") as coded, a.out.open("wb") as out:
            opened(coded, a.artifact, a.tokenizer).decompress(coded, out)
    return 0


if __name__ == "__main__":
    leave(main)
