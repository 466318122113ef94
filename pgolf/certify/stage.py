"""The certificate of a scored artifact: every rule, and a lossless round trip of validation text."""

import json
from pathlib import Path

from pydantic import Field

from pgolf.certify.checks import examine
from pgolf.certify.dossier import Dossier, History
from pgolf.certify.perturb import Probe
from pgolf.certify.report import as_text, report_of
from pgolf.certify.trip import of_artifact, rounds_in_reach, sample
from pgolf.data.source import TOKENIZER
from pgolf.evaluate.mode import Mode
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.formats.shards import read_split
from pgolf.model.gpt import assemble
from pgolf.pack.bundle import BUNDLE
from pgolf.rules import Rules
from pgolf.runtime import Runtime
from pgolf.section import Section
from pgolf.stage import Metrics, Stage, sha256_of

CERTIFICATE = "certificate.json"
READABLE = "certificate.txt"  # the same for people


class Certify(Section):
    """How much text goes through the round trip, and how closely predictions are examined."""

    sample_bytes: int = Field(4096, ge=1)  # of validation text; documents whole, but the last
    probe: Probe = Probe()


def _certify(
    packed: Path, tokens: Path, scored: Path, *code: Path, out: Path, runtime: Runtime, certify: Certify,
    evaluate: Mode, rules: Rules, history: History,
) -> Metrics:  # fmt: skip
    """`code`: the directory of the bundle that was counted, if there is one."""
    bundle = next((folder / BUNDLE for folder in code), None)
    dossier = Dossier.of_run(packed, tokens, scored, evaluate, code=bundle, rules=rules, history=history,
                             device=runtime.device, probe=certify.probe)  # fmt: skip
    ids, counts = read_split(tokens, "validation")
    digest = sha256_of(packed / ARTIFACT)
    part = sample(ids, counts, digest, certify.sample_bytes)
    artifact = read_artifact(packed / ARTIFACT)
    network = assemble(artifact.model, artifact.vocab_size, artifact.weights(), "cpu")
    trips = [
        of_artifact(packed / ARTIFACT, tokens / TOKENIZER, part, network, mode, out)
        for mode in rounds_in_reach(network, evaluate, part)
    ]
    narrow = {"round_trip_narrowed": trips[1][0]} if len(trips) > 1 else {}
    report = report_of(
        examine(dossier),
        artifact_sha256=digest,
        validation_bpb=dossier.reported.bpb,
        order=dossier.audited.order if dossier.audited else None,
        evaluate=evaluate.plain(),
        by_lengths=evaluate.by_lengths,
        round_trip=trips[0][0],
        **narrow,
        broken=[
            *(f"outside the rules: {rule}" for rule in evaluate.outside_rules),
            *(f"round trip: {broken}" for _, broken in trips if broken is not None),
        ],
    )
    (out / CERTIFICATE).write_text(json.dumps(report, indent=1, sort_keys=True))
    (out / READABLE).write_text(as_text(report))
    failed = sum(said["holds"] is False for said in report["rules"].values()) + len(report["broken"])
    return {"failed_checks": failed, **trips[0][0]}


CERTIFY = Stage("certify", 6, _certify)
