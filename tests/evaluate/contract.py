"""The laws of every mode of evaluation. Subclass, say which modes and from where a target is seen, inherit the tests.

The twin knows no windows in bulk, no batches and no rounds: each target alone, from the equations, in float64.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from pgolf.evaluate.drive import extent_of, starts_of
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.neural import Neural
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.schedule import shares
from pgolf.evaluate.scorer import score
from tests.model.twin import row_logits
from tests.nets import network, small, stream

NETWORK = network()
HOSTILE = {
    "one document": [1, *range(2, 20)],
    "many documents of one token": [1, 5, 1, 6, 1, 7, 1, 8, 1, 9, 1, 2, 1],
    "documents of nothing": [1, 1, 1, 1, 5, 1, 1],
    "shorter than the context": [1, 4],
    "a document that begins at every window's border": [1, 4, 5, 1, 6, 7, 1, 8, 9, 1, 2, 3, 1],
    "a stream that begins inside a document": [9, 8, 1, 7, 6, 5, 4, 3, 2],
}


def counted(tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A stream and bytes: none for BOS, and no two tokens alike."""
    ids = np.array(tokens, dtype=np.uint16)
    return ids, np.where(ids == 1, 0, 3 + ids % 4).astype(np.uint16)


class ModeContract:
    """The modes of one kind, and their definition."""

    modes: tuple[Mode, ...]

    def seen_from(self, mode: Mode, target: int, starts: list[int], tokens: int) -> int:
        """The first position that a target is predicted from, by the mode's definition."""
        raise NotImplementedError

    def twin(self, mode: Mode, tokens: list[int]) -> list[float]:
        """Nats of each target."""
        starts = starts_of(np.array(tokens)).tolist()
        found = [0.0]
        for target in range(1, len(tokens)):
            begin = self.seen_from(mode, target, starts, len(tokens))
            logits = row_logits(NETWORK, small(), tokens[begin:target])[-1]
            found.append(
                float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[target]])
            )
        return found

    @pytest.mark.parametrize("tokens", HOSTILE.values(), ids=HOSTILE.keys())
    def test_it_is_the_twin_on_hostile_streams(self, tokens):
        ids, counts = counted(tokens)
        for mode in self.modes:
            got = score(Neural(NETWORK), ids, counts, mode).verify()
            expected = self.twin(mode, tokens)
            assert got.bpb == pytest.approx(
                math.fsum(expected) / math.log(2) / int(counts[1:].sum(dtype=np.int64)), abs=1e-6
            )
            assert got.nll == pytest.approx(expected, abs=1e-4)
            assert got.bytes == int(counts[1:].sum())

    @pytest.mark.parametrize("seed", range(6))
    def test_it_is_the_twin_on_any_stream(self, seed):
        rng = np.random.Generator(np.random.PCG64(seed))
        tokens = stream(seed, int(rng.integers(2, 30)), int(rng.integers(0, 6)))[0].tolist()
        ids, counts = counted(tokens)
        mode = self.modes[seed % len(self.modes)]
        if counts[1:].any():
            got = score(Neural(NETWORK), ids, counts, mode).verify()
            assert got.nll == pytest.approx(self.twin(mode, tokens), abs=1e-4)

    @pytest.mark.parametrize("seed", range(30))
    def test_every_target_is_in_one_step_of_one_rank_in_its_round(self, seed):
        rng = np.random.Generator(np.random.PCG64(seed))
        length, ranks = int(rng.integers(2, 200)), int(rng.integers(1, 5))
        cuts = rng.integers(1, 300, size=seed % 4).tolist()
        starts = starts_of(stream(seed, length, int(rng.integers(0, 40)))[0].numpy())
        for mode in self.modes:
            times, seen, ends = np.zeros(length, dtype=int), {}, []
            for batches in mode.rounds(Extent(length, starts), cuts, ranks):
                parts = shares([b.cost for b in batches], ranks)
                assert sorted(i for part in parts for i in part) == list(range(len(batches)))
                for step in (s for b in batches for s in b.steps):
                    for context, begin, end in step.windows.tolist():
                        assert end - 1 - context <= mode.context, "no window is longer than the context"
                        times[begin:end] += 1
                        seen |= dict.fromkeys(range(begin, end), context)
                ends.append(int(times.sum()))
            assert times.tolist() == [0, *[1] * (length - 1)][:length]
            assert seen == {t: self.seen_from(mode, t, starts.tolist(), length) for t in range(1, length)}
            wanted = sorted({c for c in cuts if c < length - 1})
            assert len(ends) <= len(wanted) + 1
            assert all(any(end >= cut for end in ends) for cut in wanted)

    @pytest.mark.parametrize("seed", range(20))
    def test_what_a_round_sees_was_scored_in_it_or_before(self, seed):
        """So that a decoder, which knows no more than that, can follow."""
        rng = np.random.Generator(np.random.PCG64(seed))
        length = int(rng.integers(2, 120))
        starts = starts_of(stream(seed, length, int(rng.integers(0, 30)))[0].numpy())
        for mode in self.modes:
            known = {0, *starts.tolist()}
            for batches in mode.rounds(Extent(length, starts), [int(rng.integers(1, 120))], 1):
                for batch in batches:
                    for step in batch.steps:
                        for context, begin, end in step.windows.tolist():
                            assert set(range(context, begin)) <= known
                            known |= set(range(begin, end))

    def test_rounds_without_learning_change_nothing(self):
        ids, counts = counted(stream(3, 120, 9)[0].tolist())
        for mode in self.modes:
            whole = score(Neural(NETWORK), ids, counts, mode)
            extent, rounds = extent_of(starts_of(ids), len(ids), Neural(NETWORK), mode, 1)
            assert len(rounds) == len(extent.rounds) == 1
            in_rounds = score(InRounds(NETWORK), ids, counts, mode)
            assert in_rounds.audit().rounds > 2
            assert in_rounds.nll == pytest.approx(whole.nll, abs=1e-4)

    def test_it_says_what_it_is(self):
        assert all(str(mode.context) in mode.described for mode in self.modes)


class InRounds(Neural):
    """Learns nothing, in rounds of 20 targets."""

    learns = True

    def boundaries(self, extent: Extent) -> list[int]:
        return list(range(20, extent.tokens, 20))


def document_of(target: int, starts: list[int], tokens: int) -> tuple[int, int]:
    """Where the document of a target begins, and its last target."""
    for begin, end in pairwise([*starts, tokens - 1]):
        if begin < target <= end:
            return begin, end
    raise AssertionError(f"target {target} belongs to a document")
