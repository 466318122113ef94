"""The certificate of a scored artifact: the rules, and a lossless round trip through two processes.

One process, with the artifact, compresses a deterministic sample of the validation documents; another, with the
artifact, the tokenizer and the compressed bytes and nothing else, restores the text. It must come back byte for
byte, in as many bytes as the scorer's bits say (within 0.1 % and 64 bytes).
"""

import hashlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from pgolf.certify.checks import examine
from pgolf.certify.coder import COSTLIEST_BITS
from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.certify.report import as_text, report_of
from pgolf.data.source import TOKENIZER
from pgolf.data.tokenizer import Tokenizer
from pgolf.evaluate.__main__ import SCORES
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.scorer import score
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.shards import Tokens, read_split, write_shard
from pgolf.fresh import WorkerFailed, run_fresh
from pgolf.model.gpt import Gpt, assemble
from pgolf.pack.bundle import BUNDLE
from pgolf.rules import Rules
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Metrics, Stage, sha256_of

CERTIFICATE = "certificate.json"
READABLE = "certificate.txt"  # the same for people
RELATIVE_SLACK, BYTE_SLACK = 0.001, 64


class Certify(Section):
    """How much text goes through the round trip, and how closely predictions are examined."""

    sample_bytes: int = Field(4096, ge=1)  # of validation text; documents whole, but the last
    probe: Probe = Probe()


def _certify(
    packed: Path, tokens: Path, scored: Path, *code: Path, out: Path, runtime: Runtime, certify: Certify,
    evaluate: Mode, rules: Rules,
) -> Metrics:  # fmt: skip
    """`code`: the directory of the bundle that was counted, if there is one."""
    said = json.loads((scored / SCORES).read_text())
    bundle = next((folder / BUNDLE for folder in code), None)
    dossier = Dossier.of_run(
        packed,
        tokens,
        scored,
        evaluate,
        code=bundle,
        rules=rules,
        device=runtime.device,
        probe=certify.probe,
    )
    claimed = {"bpb": said["bpb"], "tokens": int(said["val_tokens"]), "bytes": int(said["val_bytes"])}
    dossier = replace(
        dossier,
        reported=dossier.reported.but(**claimed, loss=said["nats_per_token"]),
        clocks=dossier.clocks.but(eval_seconds=said["eval_seconds"]),
    )
    ids, counts = read_split(tokens, "validation")
    digest = sha256_of(packed / ARTIFACT)
    part, sizes = sample(ids, counts, digest, certify.sample_bytes)
    artifact = read_artifact(packed / ARTIFACT)
    network = assemble(artifact.model, artifact.vocab_size, artifact.weights(), "cpu")
    trip, broken = round_trip(packed / ARTIFACT, tokens / TOKENIZER, part, sizes, network, evaluate, out)
    report = report_of(
        examine(dossier),
        artifact_sha256=digest,
        validation_bpb=said["bpb"],
        order=dossier.audited.order if dossier.audited else None,
        evaluate=evaluate.plain(),
        round_trip=trip,
        broken=[
            *(f"outside the rules: {rule}" for rule in evaluate.outside_rules),
            *([] if broken is None else [f"round trip: {broken}"]),
        ],
    )
    (out / CERTIFICATE).write_text(json.dumps(report, indent=1, sort_keys=True))
    (out / READABLE).write_text(as_text(report))
    failed = sum(said["holds"] is False for said in report["rules"].values()) + len(report["broken"])
    return {"failed_checks": failed, **trip}


def sample(ids: Tokens, counts: Tokens, seed: str, budget: int) -> tuple[Tokens, Tokens]:
    """Tokens and byte counts of documents, as a stream of their own, in about `budget` bytes.

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
        if not len(sizes) or sizes[-1] == 0:
            continue
        length = int(np.searchsorted(sizes, left, side="left")) + 1
        chosen.append((int(starts[d]), int(min(starts[d] + length, ends[d]))))
        left -= int(sizes[min(length, len(sizes)) - 1])
        if left <= 0:
            break
    places = np.concatenate([np.arange(b, e) for b, e in sorted(chosen)]) if chosen else np.zeros(0, int)
    return np.asarray(ids[places]), np.asarray(counts[places])


def round_trip(
    artifact: Path, tokenizer: Path, ids: Tokens, counts: Tokens, network: Gpt, evaluate: Mode, out: Path
) -> tuple[Metrics, str | None]:
    """Send a stream through two processes; what came of it, and what is wrong with it.

    Args:
        network: of the artifact, on the CPU: the scorer's bits are found by the same evaluation of the sample.
    """
    sent, coded, text = out / "sample.bin", out / "coded.bin", out / "text.bin"
    write_shard(sent, ids)
    sealed = [
        arg for store in {artifact.parents[2], tokenizer.parents[2]} for arg in ("--sealed", str(store))
    ]
    first = ["compress", artifact, tokenizer, sent, coded, "--evaluate", json.dumps(evaluate.plain())]
    lines: list[str] = []
    encode_seconds = run_fresh("pgolf.certify", [*sealed, *map(str, first)], 1, lines.append)
    made = json.loads(lines[-1])
    sent.unlink()  # the second process is not given it, and now there is nothing to be given
    second = ["decompress", artifact, tokenizer, coded, text]
    unreadable = None
    began = time.perf_counter()
    try:
        run_fresh("pgolf.certify", [*sealed, *map(str, second)], 1)
    except WorkerFailed as failed:
        unreadable = f"the second process could not restore it: {str(failed).splitlines()[-1].strip()}"
    decode_seconds = time.perf_counter() - began
    scores = score(evaluate.predictor(network), ids, counts, evaluate)
    bits = scores.nll / math.log(2)
    expected = math.fsum(np.minimum(bits, COSTLIEST_BITS)) / 8
    known = Tokenizer.load(tokenizer)
    starts = starts_of(ids)
    parts = [ids[b + 1 : e].tolist() for b, e in zip(starts, [*starts[1:], len(ids)], strict=True)]
    wanted = b"".join(map(known.exact_text, parts))
    trip = {
        "documents": len(starts),
        "sample_tokens": len(ids) - 1,
        "text_bytes": len(wanted),
        "coded_bytes": made["coded_bytes"],
        "file_bytes": made["file_bytes"],
        "scored_bytes": math.fsum(bits) / 8,
        "expected_bytes": expected,  # the same, where no token costs more than the coder can make it
        "encode_seconds": encode_seconds,
        "decode_seconds": decode_seconds,
    }
    if unreadable is not None:
        return trip, unreadable
    if text.read_bytes() != wanted:
        return trip, "the text that came back is not the text that went in"
    if abs(made["coded_bytes"] - expected) > RELATIVE_SLACK * expected + BYTE_SLACK:
        return (
            trip,
            f"coded in {made['coded_bytes']} bytes, the scorer's bits say {expected:.1f} in its precision",
        )
    return trip, None


CERTIFY = Stage("certify", 5, _certify)
