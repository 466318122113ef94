"""The round trip: a stream goes through two processes, and comes back or does not.

One process, with the artifact, codes a sample of the documents; another, with the artifact and the coded bytes and
nothing else, restores it. It must come back as it was, in as many bytes as the scorer's bits say. What the second
process does not have its predictor cannot use: whoever peeked, or was examined and knew it, does not decode.
"""

import hashlib
import json
import math
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pgolf.certify.dossier import Dossier
from pgolf.certify.narrow import narrowed
from pgolf.data.tokenizer import Tokenizer
from pgolf.errors import StoreError
from pgolf.evaluate.drive import extent_of, starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.predictor import Predictor
from pgolf.evaluate.scorer import score
from pgolf.formats.arrays import read_arrays
from pgolf.formats.shards import BOS, Tokens, read_shard, write_shard
from pgolf.fresh import WorkerFailed, run_fresh
from pgolf.model.gpt import Gpt
from pgolf.stage import Metrics, sha256_of

SLOWEST_SECONDS = 3600.0  # of either process: what takes longer is taken to hang
RELATIVE_SLACK, BYTE_SLACK = 0.001, 16  # the coder's last words are eight bytes


def sample(ids: Tokens, counts: Tokens, seed: str, budget: int) -> Tokens:
    """Documents as a stream of their own, in about `budget` of what is counted at every token.

    Which documents is settled by a digest of the artifact's (`seed`) and their numbers, so that nobody could have
    chosen them; the last one is cut where the budget ends. They keep their order.
    """
    starts = starts_of(ids)
    ends = np.append(starts[1:], len(ids))
    order = sorted(range(len(starts)), key=lambda d: hashlib.sha256(f"{seed} {d}".encode()).digest())
    chosen: list[tuple[int, int]] = []
    left = budget
    for d in order:
        sizes = counts[starts[d] : ends[d]].cumsum(dtype=np.int64)
        if not len(sizes) or sizes[-1] == 0 or ids[starts[d]] != BOS:
            continue
        length = int(np.searchsorted(sizes, left, side="left")) + 1
        chosen.append((int(starts[d]), int(min(starts[d] + length, ends[d]))))
        left -= int(sizes[min(length, len(sizes)) - 1])
        if left <= 0:
            break
    places = np.concatenate([np.arange(b, e) for b, e in sorted(chosen)]) if chosen else np.zeros(0, int)
    return np.asarray(ids[places])


def documents_of(sampled: Tokens) -> list[list[int]]:
    """The documents of a sample, BOS not included."""
    return [sampled[b + 1 : e].tolist() for b, e in pairwise([*starts_of(sampled).tolist(), len(sampled)])]


def rounds_in_reach(network: Gpt, evaluate: Mode, ids: Tokens) -> list[Mode]:
    """The mode, and where it learns after rounds that are longer than the stream, it in narrow: learning is part of
    what has to be restored."""
    starts = starts_of(ids)
    predictor = evaluate.predictor(network)
    _, rounds = extent_of(starts, len(ids), predictor, evaluate, ranks=1)
    narrow = narrowed(evaluate, len(ids), len(starts))
    return [evaluate] if len(rounds) > 1 or not predictor.learns or narrow == evaluate else [evaluate, narrow]


def of_artifact(
    artifact: Path, tokenizer: Path, ids: Tokens, network: Gpt, evaluate: Mode, out: Path
) -> tuple[Metrics, str | None]:
    """Send text through `pgolf compress` and `decompress`; what came of it, and what is wrong with it.

    Args:
        network: of the artifact, on the CPU: the scorer's bits are found by the same evaluation of the sample.
    """
    sent, coded, text = out / "sample.bin", out / "coded.bin", out / "text.bin"
    write_shard(sent, ids)
    sealed = [
        arg for store in {artifact.parents[2], tokenizer.parents[2]} for arg in ("--sealed", str(store))
    ]
    first = ["compress", artifact, tokenizer, sent, coded, "--evaluate", json.dumps(evaluate.plain())]
    second = ["decompress", artifact, tokenizer, coded, text]
    printed, encode_seconds = _first([*sealed, *map(str, first)], sent)
    unreadable, decode_seconds = _second([*sealed, *map(str, second)])
    known = Tokenizer.load(tokenizer)
    wanted = b"".join(map(known.exact_text, documents_of(ids)))
    trip = {
        "documents": len(starts_of(ids)),
        "sample_tokens": len(ids) - 1,
        "scored_bytes": scored_bytes(evaluate.predictor(network), evaluate, ids),
        "text_bytes": len(wanted),
        **json.loads(printed[-1]),
        "encode_seconds": encode_seconds,
        "decode_seconds": decode_seconds,
    }
    return trip, unreadable or _wrong(trip, text.read_bytes() == wanted)


def of_claim(claim: Path, dossier: Dossier) -> dict[str, Any]:
    """Send tokens through a claimed predictor in two processes: `round_trip` and `broken` of the report.

    As many tokens as have their distributions added up elsewhere (`probe.sums`). Empty where nothing that predicts was
    given, or it did not come through the evaluations: other rules say so.
    """
    claim = claim.resolve()  # the processes begin elsewhere
    mode, vocab, stream = dossier.evaluate, dossier.vocabulary, dossier.scored
    if dossier.predictor is None or mode is None or vocab is None or stream is None:
        return {}
    if dossier.ran is None or dossier.failures:
        return {}
    tokens, counts = stream
    digest = sha256_of(claim if dossier.artifact is None else dossier.artifact)
    ids = sample(tokens, np.ones_like(counts), digest, dossier.probe.sums)
    if len(ids) < 2:
        return {}
    with tempfile.TemporaryDirectory() as work:
        sent, coded, back = (Path(work, name) for name in ("sample.bin", "coded.npz", "back.bin"))
        write_shard(sent, ids)
        given = ["--vocab-size", str(vocab)]
        try:
            _, encode_seconds = _first(["encode", str(claim), str(sent), str(coded), *given], sent)
            coded_bytes = read_arrays(coded)["words"].nbytes
        except (WorkerFailed, StoreError) as failed:
            return {"broken": [f"round trip: the first process could not code it: {_last(failed)}"]}
        unreadable, decode_seconds = _second(["decode", str(claim), str(coded), str(back), *given])
        scored = scored_bytes(dossier.predictor(), mode, ids)
        trip = {
            "documents": len(starts_of(ids)),
            "sample_tokens": len(ids) - 1,
            "scored_bytes": scored,
            "coded_bytes": coded_bytes,
            "encode_seconds": encode_seconds,
            "decode_seconds": decode_seconds,
        }
        broken = unreadable or _wrong(trip, back.is_file() and np.array_equal(read_shard(back), ids))
    plain = {name: value if math.isfinite(value) else str(value) for name, value in trip.items()}
    return {"round_trip": plain, "broken": [] if broken is None else [f"round trip: {broken}"]}


def _first(arguments: list[str], sent: Path) -> tuple[list[str], float]:
    """What the first process printed, and its seconds."""
    lines: list[str] = []
    seconds = run_fresh("pgolf.certify", arguments, 1, lines.append, SLOWEST_SECONDS)
    sent.unlink()  # the second process is not given it, and now there is nothing to be given
    return lines, seconds


def _second(arguments: list[str]) -> tuple[str | None, float]:
    began, unreadable = time.perf_counter(), None
    try:
        run_fresh("pgolf.certify", arguments, 1, limit_seconds=SLOWEST_SECONDS)
    except WorkerFailed as failed:
        unreadable = f"the second process could not restore it: {_last(failed)}"
    return unreadable, time.perf_counter() - began


def scored_bytes(predictor: Predictor, mode: Mode, ids: Tokens) -> float:
    """What the scorer, which asks for whole blocks, says that a stream takes."""
    return math.fsum(score(predictor, ids, np.ones_like(ids), mode).nll) / math.log(2) / 8


def _wrong(trip: Metrics, came_back: bool) -> str | None:
    if not came_back:
        return "what came back is not what went in"
    coded, scored = trip["coded_bytes"], trip["scored_bytes"]
    if not abs(coded - scored) <= RELATIVE_SLACK * scored + BYTE_SLACK:
        return f"coded in {coded} bytes, the scorer's bits say {scored:.1f}"
    return None


def _last(failed: WorkerFailed | StoreError) -> str:
    """Its last words: an exception's one line, or the three of a user's mistake."""
    lines = [line.strip() for line in str(failed).splitlines()]
    return " ".join(lines[-3:] if lines[-1].startswith("way out") else lines[-1:])
