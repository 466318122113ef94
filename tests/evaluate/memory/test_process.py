"""Memory where scores are made: in the fresh process, its log beside the scores, and in modes that cannot hold it."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from pgolf.evaluate.__main__ import MEMORY_EVENTS
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.remembering import EVENT_COLUMNS, SAMPLE
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.sliding import Sliding
from pgolf.formats.arrays import read_arrays
from pgolf.formats.blob import ARTIFACT
from pgolf.fresh import run_fresh
from tests.evaluate.memory.laws import CHEAP, drive, text

CHAIN = TokenTilt(orders=(1, 2), base=UnigramCache(rate=0.1), share_documents=True, round_tokens=99)
MODE = DocumentChunks(context=64, chunk=8, memory=CHAIN)


@pytest.fixture(scope="module")
def scored(packed, tokens, tmp_path_factory):
    out = tmp_path_factory.mktemp("scored")
    for name, mode in (("memory", MODE), ("plain", MODE.plain_mode)):
        (out / name).mkdir()
        given = [str(packed / ARTIFACT), "--tokens", str(tokens / "select_000000.bin"), "--bytes"]
        given += [str(tokens / "select_bytes_000000.bin"), "--evaluate", json.dumps(mode.plain())]
        run_fresh(
            "pgolf.evaluate", [*given, "--out", str(out / name), "--sealed", str(packed.parent.parent)], 1
        )
    return out


def test_the_log_lies_beside_the_scores_and_adds_up(scored):
    metrics, plain = (json.loads((scored / n / "scores.json").read_text()) for n in ("memory", "plain"))
    logs = read_arrays(scored / "memory" / MEMORY_EVENTS)
    assert not (scored / "plain" / MEMORY_EVENTS).exists()
    assert logs["total_targets"].tolist() == [299, 299]
    gained = (metrics["nats_per_token"] - plain["nats_per_token"]) * 299
    assert logs["total_dloss"].sum() == pytest.approx(gained, abs=1e-4)  # rounds make other batches
    assert 0 < metrics["memory_seconds"] < metrics["eval_seconds"]
    assert "memory_seconds" not in plain


def test_events_say_what_was_proposed_and_what_came(scored, tokens):
    logs = read_arrays(scored / "memory" / MEMORY_EVENTS)
    ids = np.fromfile(tokens / "select_000000.bin", dtype=np.uint16)[512:]
    events = {name: logs[name][logs["memory"] == 1] for name in EVENT_COLUMNS}
    pos = events["pos"]
    assert len(pos) > 20 and (np.diff(pos) > 0).all()
    assert (events["hit"] == (ids[pos] == events["h"])).all()
    assert (events["gated"] | (pos % SAMPLE == 0)).all()
    assert (np.searchsorted(np.flatnonzero(ids == 1), pos - 1, side="right") - 1 == events["doc"]).all()
    assert (ids[pos - events["dist"]] == events["h"]).all(), "the source is where it says"
    q, beta, hit = (events[n].astype(np.float64) for n in ("q", "beta", "hit"))
    assert np.allclose(events["dloss"], np.log1p(q * np.expm1(beta)) - beta * hit, atol=1e-4)
    assert np.allclose(events["dloss"], events["nll_mixed"] - events["nll_base"], atol=1e-4)
    near = events["in_window"]
    assert near.any() and not near.all()
    assert (events["dist"][near] <= MODE.context).all()


def test_nothing_is_noted_where_nobody_asks_for_it():
    predictor = MODE.memory.build(CHEAP)
    seen = drive(predictor, text(), MODE)
    assert np.isfinite(seen.nll).all()
    assert len(predictor.events()) == 2


@pytest.mark.parametrize(
    "memory", [TokenTilt(), UnigramCache(base=TokenTilt(), share_documents=True, strength=0.1)]
)
def test_a_stream_opens_no_documents_to_remember(memory):
    with pytest.raises(ValidationError, match="does not open documents"):
        Sliding(memory=memory)
    Sliding(memory=memory.but(share_documents=True, base=None))


def test_the_plain_mode_remembers_nothing():
    assert MODE.plain_mode.memory is None
    assert MODE.adaptive
