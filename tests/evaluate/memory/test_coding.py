"""What was coded with a memory decodes with it, to the length that its scores say."""

from itertools import pairwise

import numpy as np
import pytest

from pgolf.certify.coder import decode, encode
from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.match_model import MatchModel
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.trust import Trust
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, ROUND, WINDOWS, drive, text
from tests.nets import BOS

SHARED = {"share_documents": True, "round_tokens": ROUND}
CASES = {
    "token_tilt": (DOCUMENTS, TokenTilt(orders=(1, 2, 4), hints=2, **SHARED)),
    "windows": (WINDOWS, TokenTilt(orders=(1, 3), **SHARED)),
    "match_model": (DOCUMENTS, MatchModel(lengths=(1, 2, 4), base=UnigramCache(rate=0.1), **SHARED)),
    "context_mixing": (DOCUMENTS, ContextMixing(orders=(1, 2), base=Knn(), **SHARED)),
    "ppm": (DOCUMENTS, Ppm(orders=(2, 3))),
    "backoff of windows": (WINDOWS, Backoff(orders=(1, 2), alpha=0.1, gate=Trust(belief=0.1), **SHARED)),
    "ppm of rounds alone": (DOCUMENTS, Ppm(orders=(1,), gate=Trust(belief=0.1), document=False, **SHARED)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_decodes(name):
    mode, memory = CASES[name]
    ids = text(9)
    starts = [*np.flatnonzero(ids == BOS).tolist(), len(ids)]
    documents = [ids[a + 1 : b].tolist() for a, b in pairwise(starts)]
    words = encode(memory.build(CHEAP), mode, documents)
    assert decode(memory.build(CHEAP), mode, [len(d) for d in documents], words) == documents
    nats = drive(memory.build(CHEAP), ids, mode).nll.sum()
    assert abs(32 * len(words) - nats / np.log(2)) < 64
