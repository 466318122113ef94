"""The two processes of the round trip; the second has only what it names.

python -m pgolf.certify compress   artifact.bin tokenizer.model tokens.bin coded.bin --evaluate '{...}'
python -m pgolf.certify decompress artifact.bin tokenizer.model coded.bin text.bin

The same of somebody's claim. They may open its artifact, its tokenizer and its code, start no program, and open
nothing else.

python -m pgolf.certify encode claim.json tokens.bin coded.bin --vocab-size N
python -m pgolf.certify decode claim.json coded.bin tokens.bin --vocab-size N
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from pgolf.certify.claim import read_claim
from pgolf.certify.coder import decode, encode
from pgolf.certify.compressor import Compressor, opened
from pgolf.certify.dossier import tokenizer_of
from pgolf.certify.trip import documents_of
from pgolf.evaluate.evaluation import Evaluation
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.shards import BOS, read_shard, write_shard
from pgolf.fresh import leave, seal, seal_whole


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pgolf.certify", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sealed", type=Path, action="append", default=[])
    verbs = parser.add_subparsers(dest="verb", required=True)
    compress, decompress, *of_claims = (
        verbs.add_parser(verb) for verb in ("compress", "decompress", "encode", "decode")
    )
    for command in (compress, decompress):
        for name in ("artifact", "tokenizer", "given", "out"):
            command.add_argument(name, type=Path)
    compress.add_argument("--evaluate", type=TypeAdapter(Evaluation).validate_json, required=True)
    for command in of_claims:
        for name in ("claim", "given", "out"):
            command.add_argument(name, type=Path)
        command.add_argument("--vocab-size", type=int, required=True)
    a = parser.parse_args(argv)
    if "claim" in a:
        return _of_claim(a)
    seal(a.sealed, allowed=[a.artifact, a.tokenizer, a.given, a.out])
    if a.verb == "compress":
        documents = documents_of(read_shard(a.given))
        with a.out.open("wb") as out:
            made = Compressor(a.artifact, a.tokenizer, a.evaluate, threads=1).compress([documents], out)
        print(json.dumps({"text_bytes": made.text_bytes, "coded_bytes": made.coded_bytes,
                          "file_bytes": made.file_bytes}))  # fmt: skip
    else:
        with a.given.open("rb") as coded, a.out.open("wb") as out:
            opened(coded, a.artifact, a.tokenizer).decompress(coded, out)
    return 0


def _of_claim(a: argparse.Namespace) -> int:
    claim = read_claim(a.claim, predicts=a.vocab_size)
    assert claim.predictor is not None and claim.evaluate is not None, "only such claims are sent here"
    home = a.claim.resolve().parent
    code = claim.counted or [file for file in home.rglob("*.py") if not _is_below(file, claim.tokens)]
    tokenizer = None if claim.tokens is None else tokenizer_of(claim.tokens)
    given = [file for file in (claim.artifact, tokenizer) if file is not None]
    seal_whole(allowed=[*given, *code, a.given, a.out])
    torch.set_num_threads(1)
    if a.verb == "encode":
        documents = documents_of(read_shard(a.given))
        words = encode(claim.predictor(), claim.evaluate, documents)
        write_arrays(a.out, {"lengths": np.array([len(d) for d in documents]), "words": words})
    else:
        coded = read_arrays(a.given)
        found = decode(claim.predictor(), claim.evaluate, coded["lengths"].tolist(), coded["words"])
        write_shard(a.out, np.array([token for document in found for token in (BOS, *document)], np.uint16))
    return 0


def _is_below(file: Path, folder: Path | None) -> bool:
    return folder is not None and file.is_relative_to(folder.resolve())


if __name__ == "__main__":
    leave(main)
