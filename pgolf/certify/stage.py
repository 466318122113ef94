"""The certificate of a scored artifact: the laws, and a lossless round trip through two processes.

One process, with the artifact, compresses a deterministic sample of the validation documents; another,
with the artifact, the tokenizer and the compressed bytes and nothing else, restores the text. It must come
back byte for byte, in as many bytes as the scorer's bits say (within 0.1 % and 64 bytes).
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pgolf.certify.checks import laws as checks
from pgolf.certify.coder import coded_bytes
from pgolf.data.source import TOKENIZER
from pgolf.data.tokenizer import Tokenizer
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.ledger import read_ledger, windows_of
from pgolf.formats.shards import BOS, Tokens, read_split
from pgolf.fresh import run_fresh
from pgolf.model.gpt import assemble
from pgolf.runtime import Runtime
from pgolf.section import Section, digest_of
from pgolf.stage import Metrics, Stage, sha256_of

CERTIFICATE = "certificate.json"
RELATIVE_SLACK, BYTE_SLACK = 0.001, 64


class Certify(Section):
    """How much text goes through the round trip."""

    sample_tokens: int = Field(512, ge=1)


def _certify(
    packed: Path, tokens: Path, scored: Path, *, out: Path, runtime: Runtime, certify: Certify
) -> Metrics:
    ids, counts = read_split(tokens, "validation")
    events, nll = read_ledger(scored)
    windows = windows_of(events)
    bpb = json.loads((scored / "scores.json").read_text())["bpb"]
    tokenizer = Tokenizer.load(tokens / TOKENIZER)
    artifact = read_artifact(packed / ARTIFACT)
    v = artifact.vocab_size
    network = assemble(artifact.model, v, artifact.weights(), "cpu")
    verdicts: dict[str, str | None] = {
        "score_once": checks.score_once(events, len(ids)),
        "sums_agree": checks.sums_agree(nll, counts, bpb),
        "bytes_are_the_text": checks.bytes_are_the_text(ids, counts, tokenizer),
        "future_is_invisible": checks.future_is_invisible(network, v),
        "documents_are_islands": checks.documents_are_islands(network, v),
        "is_a_distribution": checks.is_a_distribution(network, v),
    }
    trip, verdicts["round_trip"] = _round_trip(
        packed / ARTIFACT,
        tokens / TOKENIZER,
        tokenizer,
        sample(ids, windows, certify.sample_tokens),
        nll,
        out,
    )
    failed = [name for name, broken in verdicts.items() if broken]
    report: dict[str, Any] = {
        "verdict": "fails" if failed else "holds",
        "artifact_sha256": sha256_of(packed / ARTIFACT),
        "validation_bpb": bpb,
        "checks": {name: broken or "holds" for name, broken in verdicts.items()},
        "round_trip": trip,
    }
    report["digest"] = digest_of(report)
    (out / CERTIFICATE).write_text(json.dumps(report, indent=1, sort_keys=True))
    return {"failed_checks": len(failed), **trip}


def sample(ids: Tokens, windows: NDArray[np.int64], budget: int) -> list[dict[str, Any]]:
    """The shortest documents that fit a budget of tokens (at least one, or its beginning).

    Each with its tokens, its place in the stream, and the scorer's windows relative to its BOS.
    """
    starts = np.flatnonzero(ids == BOS)
    spans = sorted(zip(starts, [*starts[1:], len(ids)], strict=True), key=lambda s: (s[1] - s[0], s[0]))
    chosen, left = [], budget
    for begin, end in spans:
        length = min(int(end - begin) - 1, left)
        if length < 1:
            continue
        inside = windows[(windows[:, 2] > begin + 1) & (windows[:, 1] <= begin + length)]
        rows = np.stack(
            [
                np.maximum(inside[:, 0] - begin, 0),
                np.maximum(inside[:, 1] - begin, 1),
                np.minimum(inside[:, 2] - begin, length + 1),
            ],
            axis=1,
        )
        part = ids[begin : begin + length + 1].tolist()
        chosen.append({"at": int(begin), "length": length, "tokens": part, "windows": rows.tolist()})
        left -= length
        if left <= 0:
            break
    return chosen


def _round_trip(
    artifact: Path, model: Path, tokenizer: Tokenizer, plan: list[dict[str, Any]], nll: NDArray[np.float64],
    out: Path,
) -> tuple[Metrics, str | None]:  # fmt: skip
    plan_file, coded_file, text_file = out / "plan.json", out / "coded.bin", out / "text.json"
    plan_file.write_text(json.dumps(plan))
    sealed = [arg for store in {artifact.parents[2], model.parents[2]} for arg in ("--sealed", str(store))]
    first = ["compress", artifact, plan_file, coded_file]
    run_fresh("pgolf.certify", [*sealed, *map(str, first)], 1)
    plan_file.unlink()  # the second process is not given it, and now there is nothing to be given
    second = ["decompress", artifact, model, coded_file, text_file]
    run_fresh("pgolf.certify", [*sealed, *map(str, second)], 1)
    coded = coded_bytes(coded_file.read_bytes())
    expected = sum(math.fsum(nll[p["at"] + 1 : p["at"] + p["length"] + 1]) for p in plan) / math.log(2) / 8
    restored = [bytes.fromhex(text) for text in json.loads(text_file.read_text())]
    wanted = [tokenizer.decode(p["tokens"][1:]) for p in plan]
    trip = {
        "documents": len(plan),
        "sample_tokens": sum(p["length"] for p in plan),
        "text_bytes": sum(map(len, wanted)),
        "coded_bytes": coded,
        "scored_bytes": expected,
    }
    if restored != wanted:
        return trip, "the text that came back is not the text that went in"
    if abs(coded - expected) > RELATIVE_SLACK * expected + BYTE_SLACK:
        return trip, f"coded in {coded} bytes, the scorer's bits say {expected:.1f}"
    return trip, None


CERTIFY = Stage("certify", 1, _certify)
