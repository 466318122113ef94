"""What goes through two processes: which documents, and whose predictors come back from it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.certify.dossier import Dossier
from pgolf.certify.perturb import Probe
from pgolf.certify.trip import of_claim, rounds_in_reach, sample
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.drive import starts_of
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.formats.shards import write_shard
from tests.cheats.zoo import COUNTS, IDS
from tests.nets import VOCAB, network, small, stream


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(2, 90), documents=st.integers(0, 12), budget=st.integers(1, 90),
       name=st.text("ab", max_size=3))  # fmt: skip
def test_the_sample_is_whole_documents_but_one_in_their_order(seed, length, documents, budget, name):
    drawn = stream(seed, length, documents)[0].numpy()
    ids = np.where(drawn == 1, 1, 2 + np.arange(length)).astype(
        np.uint16
    )  # no document begins as another does
    counts = np.where(ids == 1, 0, 1 + ids % 3).astype(np.uint16)
    part = sample(ids, counts, name, budget)
    whole = [ids[b:e].tolist() for b, e in spans(ids)]
    taken = [part[b:e].tolist() for b, e in spans(part)]
    cut = [document for document in taken if document not in whole]
    assert len(cut) <= 1
    assert all(any(document == full[: len(document)] for full in whole) for document in cut)
    places = [whole.index(document) for document in taken if document in whole]
    assert places == sorted(places)
    total, size = (int(np.where(tokens == 1, 0, 1 + tokens % 3).sum()) for tokens in (ids, part))
    assert size >= min(budget, total), "as much as was asked for, where there is as much"
    assert size < budget + 3 or len(taken) == 1, "and no more than its last token"


def test_another_artifact_is_asked_for_other_documents():
    ids = stream(5, 400, 60)[0].numpy().astype(np.uint16)
    counts = np.where(ids == 1, 0, 2).astype(np.uint16)
    first, again, other = (sample(ids, counts, seed, 60).tolist() for seed in ("a", "a", "b"))
    assert first == again
    assert first != other


def spans(ids: np.ndarray) -> list[tuple[int, int]]:
    starts = starts_of(ids).tolist()
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))


PREDICTORS = """
from pathlib import Path
import numpy as np
import torch
from pgolf.evaluate.neural import Plain
from pgolf.evaluate.predictor import Holding

HOME = Path(__file__).parent

def honest(artifact, vocab_size):
    table = torch.frombuffer(bytearray(artifact.read_bytes()), dtype=torch.float32).reshape(vocab_size, vocab_size)
    return Plain(lambda tokens, starts: table[tokens])

class Mindful(Holding):
    # remembers of every document how often its tokens came, as it was told
    adapts = True
    def __init__(self, base, vocab_size):
        super().__init__(base)
        self.adapts, self.vocab_size = True, vocab_size
    def open(self, documents):
        self.seen = torch.zeros(max(len(documents), 1), self.vocab_size, dtype=torch.float64)
    def log_probs(self, ask):
        bias = torch.cat([self.seen[slot].expand(n, -1) for slot, n in zip(ask.slots, ask.wanted)])
        return (super().log_probs(ask) + 0.3 * bias.log1p()).log_softmax(-1)
    def observe(self, ask, targets):
        for slot, part in zip(ask.slots, targets.split(ask.wanted)):
            self.seen[slot] += torch.bincount(part, minlength=self.vocab_size)

def mindful(artifact, vocab_size):
    return Mindful(honest(artifact, vocab_size), vocab_size)

def dicing(artifact, vocab_size):
    table = torch.from_numpy(np.random.default_rng().standard_normal((vocab_size, vocab_size)))
    return Plain(lambda tokens, starts: table[tokens])

def reading(artifact, vocab_size):
    tokens = np.fromfile(HOME / "shards" / "validation_000000.bin", dtype=np.uint16)
    return honest(artifact, vocab_size)

class Posing(Holding):
    # better where nobody decodes
    def log_probs(self, ask):
        answer = super().log_probs(ask)
        return (4 * answer).log_softmax(-1) if ask.growing else answer

def posing(artifact, vocab_size):
    return Posing(honest(artifact, vocab_size))

class Noting(Holding):
    # writes down what it is asked in one process, for the other to read
    def log_probs(self, ask):
        with (HOME / "notes.txt").open("a") as notes:
            notes.write(str(ask.tokens.tolist()))
        return super().log_probs(ask)

def noting(artifact, vocab_size):
    return Noting(honest(artifact, vocab_size))
"""


PROBE = Probe(tokens=60, places=8, draws=1, sums=80, tried=50)


@pytest.fixture
def claims(tmp_path, monkeypatch):
    """Makes the claim of one of PREDICTORS."""
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "validation_000000.bin", IDS)
    write_shard(tmp_path / "shards" / "validation_bytes_000000.bin", COUNTS)
    (tmp_path / "mine.py").write_text(PREDICTORS)
    table = np.random.default_rng(0).standard_normal((VOCAB, VOCAB)).astype(np.float32)
    (tmp_path / "model.bin").write_bytes(table.tobytes())

    def claim(name: str, evaluate: dict):
        keys = {"tokens": "shards", "artifact": "model.bin", "predictor": f"mine.py:{name}", "evaluate": evaluate,
                "vocab_size": VOCAB}  # fmt: skip
        (tmp_path / "claim.json").write_text(json.dumps(keys))
        monkeypatch.chdir(tmp_path)
        return of_claim(Path("claim.json"), Dossier.read(Path("claim.json"), PROBE))

    return claim


STREAM = {"kind": "sliding", "context": 16, "stride": 8}
DOCUMENTS = {"kind": "document_chunks", "context": 20, "chunk": 6, "rows": 3}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "evaluate"), [("honest", STREAM), ("honest", DOCUMENTS), ("mindful", DOCUMENTS)]
)
def test_a_claimed_predictor_is_restored_by_a_second_process(claims, name, evaluate):
    report = claims(name, evaluate)
    assert report["broken"] == []
    trip = report["round_trip"]
    assert trip["sample_tokens"] == 79
    assert abs(trip["coded_bytes"] - trip["scored_bytes"]) < 8


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "says"), [
    ("dicing", "round trip: "),
    ("reading", "may not open"),
    ("noting", "may not open"),
])  # fmt: skip
def test_who_needs_more_than_the_artifact_is_not_restored(claims, name, says):
    (broken,) = claims(name, STREAM)["broken"]
    assert says in broken


@pytest.mark.heavy
def test_who_scores_otherwise_than_he_codes_is_told_by_the_sizes(claims):
    (broken,) = claims("posing", STREAM)["broken"]
    assert "the scorer's bits say" in broken


def test_what_learns_after_rounds_beyond_the_sample_is_tried_in_shorter_ones():
    ids = IDS
    tilt = TokenTilt(orders=(1, 2), share_documents=True, round_tokens=1 << 20)
    long = DocumentChunks(context=64, chunk=16, rows=3, memory=tilt)
    first, second = rounds_in_reach(network(small(layers=1)), long, ids)
    assert first == long
    assert second.memory.round_tokens < len(ids) // 2
    short = long.but(memory=tilt.but(round_tokens=30))
    assert rounds_in_reach(network(small(layers=1)), short, ids) == [short]
    for alone in (Sliding(context=1024, stride=512), long.but(memory=None, ttt=DocumentLora(rank=2))):
        assert rounds_in_reach(network(small(layers=1)), alone, ids) == [alone], (
            "nothing is learned after a round"
        )
