"""Adaptation in the fresh process: an artifact that adapts, one that diverges, and the exported file."""

import json

import pytest

from pgolf.errors import InfeasibleTrial
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.stage import EVALUATE
from pgolf.formats.blob import ARTIFACT, read_artifact
from pgolf.fresh import run_alone
from pgolf.model.gpt import GptConfig
from pgolf.pack.bundle import BUNDLE, bundle
from pgolf.runtime import Runtime
from pgolf.stage import Artifact, Store
from tests.evaluate.ttt.cases import LORA, PHASED, chunks

STREAM = {"kind": "stream_sgd", "chunk_tokens": 100, "sequence_tokens": 32}
ADAPTIVE = {
    "lora": chunks(LORA.but(targets=("k", "up", "head"))),
    "lower": chunks(LORA.but(upper=2, cache_lower=True, optimizer={"kind": "muon"})),
    "phased": chunks(PHASED),
    "muon": Sliding(context=16, stride=8, ttt={**STREAM, "optimizer": {"kind": "muon", "weight_decay": 0.1}}),
    "stream": chunks(STREAM),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_exported_file_adapts_as_the_fresh_process_does(name, packed, tokens, tmp_path):
    mode = ADAPTIVE[name]
    made = EVALUATE(
        Store(tmp_path / "store"), Artifact.of(packed), Artifact.of(tokens), runtime=Runtime(), evaluate=mode
    )
    file = tmp_path / BUNDLE
    file.write_bytes(bundle(GptConfig.model_validate(read_artifact(packed / ARTIFACT).model), mode))
    arguments = ["--artifact", packed / ARTIFACT, "--tokens", tokens / "select_000000.bin"]
    arguments += ["--bytes", tokens / "select_bytes_000000.bin"]
    scores = json.loads(run_alone(file, [str(a) for a in arguments], 1))
    assert scores["bpb"] == made.metrics["bpb"]
    assert scores["adapt_seconds"] > 0


def test_a_divergence_is_the_trials_outcome(packed, tokens, tmp_path):
    mode = ADAPTIVE["phased"].but(ttt=PHASED.but(lora=None, lr=1e30))
    with pytest.raises(InfeasibleTrial, match="diverged"):
        EVALUATE(
            Store(tmp_path / "store"),
            Artifact.of(packed),
            Artifact.of(tokens),
            runtime=Runtime(),
            evaluate=mode,
        )
