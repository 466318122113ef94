"""Every cheat is convicted by its rules and by no others, and nobody lawful is."""

from pathlib import Path

import numpy as np
import pytest

from pgolf.certify.checks import CHECKS, examine
from pgolf.certify.checks.artifact import reload_is_deterministic
from pgolf.certify.checks.predictions import predictions_see_the_past_alone
from pgolf.certify.dossier import Dossier
from pgolf.evaluate.blocks import Blocks
from pgolf.evaluate.document_chunks import DocumentChunks
from pgolf.evaluate.memory.backoff import Backoff
from pgolf.evaluate.memory.context_mixing import ContextMixing
from pgolf.evaluate.memory.knn import Knn
from pgolf.evaluate.memory.match_model import MatchModel
from pgolf.evaluate.memory.ppm import Ppm
from pgolf.evaluate.memory.token_tilt import TokenTilt
from pgolf.evaluate.memory.unigram_cache import UnigramCache
from pgolf.evaluate.mode import Mode
from pgolf.evaluate.scorer import score
from pgolf.evaluate.sliding import Sliding
from pgolf.evaluate.ttt.document_lora import DocumentLora
from pgolf.evaluate.ttt.phased import Phased
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.evaluate.varlen import Varlen
from tests.cheats import claims, evaluators, predictors, shards
from tests.cheats.predictors import Altered
from tests.cheats.zoo import COUNTS, IDS, PROBE, TABLE, ZOO, on_bench
from tests.nets import network, small

HOUSES = (predictors, evaluators, shards, claims)  # each adds to the zoo
README = Path(__file__).resolve().parents[2] / "README.md"


def convictions(dossier: Dossier) -> dict[str, str]:
    return {v.rule: v.evidence for v in examine(dossier) if v.convicts}


@pytest.mark.parametrize("name", ZOO)
def test_a_cheat_is_convicted_by_its_rules_and_by_no_others(name, tmp_path):
    found = [v for v in examine(ZOO[name].made(tmp_path)) if v.convicts]
    assert {v.rule for v in found} == set(ZOO[name].rules), [v.evidence for v in found]
    assert all(v.evidence and v.remedy for v in found)


def test_every_rule_convicts_someone():
    names = {check(Dossier()).rule for check in CHECKS}
    assert names == {rule for cheat in ZOO.values() for rule in cheat.rules}
    assert len(names) == len(CHECKS) == 25


LORA = DocumentLora(rank=2, alpha=2.0, lr=0.02)
SGD = {"chunk_tokens": 20, "sequence_tokens": 12, "rows": 2, "lr": 0.02}
CHUNKS = {"context": 20, "chunk": 6, "rows": 3}
TILT = TokenTilt(orders=(1, 2), share_documents=True)
LAWFUL: dict[str, Mode] = {
    "blocks": Blocks(context=16),
    "sliding": Sliding(context=16, stride=5),
    "varlen": Varlen(context=16),
    "chunks": DocumentChunks(**CHUNKS),
    "chunks, longest first": DocumentChunks(**CHUNKS, order="longest"),
    "stream sgd": Sliding(context=16, stride=5, ttt=StreamSgd(**SGD, epochs=1)),
    "document lora": DocumentChunks(**CHUNKS, ttt=LORA),
    "document lora, rates by lengths": DocumentChunks(**CHUNKS, ttt=LORA.but(cosine=True)),
    "document lora, warm": DocumentChunks(**CHUNKS, ttt=LORA.but(warm_a=True)),
    "phases": DocumentChunks(
        **CHUNKS, order="longest", ttt=Phased(phases=2, prefix_documents=2, **SGD, lora=LORA)
    ),
    "tilt of a document": DocumentChunks(**CHUNKS, memory=TokenTilt(orders=(1, 2))),
    "tilt of a stream": Sliding(context=16, stride=5, memory=TILT.but(document=False, round_tokens=20)),
    "tilt over a cache": DocumentChunks(
        **CHUNKS, memory=TILT.but(round_tokens=20, base=UnigramCache(strength=0.1))
    ),
    "backoff": DocumentChunks(**CHUNKS, memory=Backoff(orders=(1, 2), share_documents=True, round_tokens=20)),
    "ppm": DocumentChunks(**CHUNKS, memory=Ppm(orders=(1, 2))),
    "match model": DocumentChunks(**CHUNKS, memory=MatchModel(lengths=(1, 2))),
    "context mixing": DocumentChunks(**CHUNKS, memory=ContextMixing(orders=(1, 2))),
    "knn": DocumentChunks(**CHUNKS, memory=Knn()),
    "tilt over adapters": DocumentChunks(**CHUNKS, ttt=LORA, memory=TokenTilt(orders=(1, 2))),
}


@pytest.mark.parametrize("name", LAWFUL)
def test_nobody_lawful_is_convicted(name):
    mode = LAWFUL[name]
    few = PROBE.but(tokens=60, places=8, draws=1, sums=60)
    verdicts = examine(on_bench(lambda: mode.predictor(network(small(layers=1))), mode, few))
    assert [v.evidence for v in verdicts if v.convicts] == []
    judged = {v.rule for v in verdicts if v.holds}
    assert {"L1", "L2", "L3", "L4", "L5", "L6", "L7", "L12", "L16", "L17", "L20", "X1"} <= judged


@pytest.mark.parametrize(
    "name", ["stream sgd", "document lora, rates by lengths", "phases", "tilt over a cache"]
)
def test_kept_scores_of_what_adapts_are_cleared_though_rates_go_by_lengths(name):
    """What is tried out is shorter than what was scored: there, rates fell otherwise."""
    mode = LAWFUL[name]

    def subject():
        return mode.predictor(network(small(layers=1)))

    made = score(subject(), IDS, COUNTS, mode)
    few = PROBE.but(tokens=60, places=2, draws=1, sums=60)
    verdict = reload_is_deterministic(on_bench(subject, mode, few, events=made.events, nll=made.nll))
    assert verdict.holds, verdict.evidence


def test_sound_shards_are_cleared(tmp_path):
    verdicts = {v.rule: v.holds for v in examine(Dossier(tokens=shards.lay(tmp_path)))}
    assert False not in verdicts.values()
    assert verdicts["L8"] and verdicts["L10"] and verdicts["X2"]


def test_one_gated_position_is_found_among_all():
    """It looks at the target at one place of the stream, and nowhere else."""
    place = 57

    class Once(Altered):
        def change(self, answer, ask):
            inside = np.flatnonzero(ask.positions() == place)
            for at in inside.tolist():
                row = int(np.flatnonzero((ask.windows[:, 1] <= place) & (place < ask.windows[:, 2]))[0])
                after = place - int(ask.windows[row, 0])
                if after < ask.lengths[row]:
                    answer[at, ask.tokens[row, after]] += 2.0
                    answer[at] = answer[at].log_softmax(-1)
            return answer

    found = predictions_see_the_past_alone(on_bench(Once, probe=PROBE.but(places=20)))
    assert found.convicts
    assert f"target {place}'s own distribution moves" in found.evidence


def test_what_goes_wrong_where_windows_meet_shows_in_a_wide_window_too():
    """The short stream lies within one window of this mode, so it is evaluated in narrower ones as well."""
    given = predictors.reading_the_next_window_of_the_batch(Path())
    wide = on_bench(given.predictor, Sliding(context=1024, stride=64))
    assert set(convictions(wide)) == {"L1", "L2", "L4"}


def test_where_documents_share_a_window_by_declaration_they_may():
    """The official sliding window reads across documents: who says so is not convicted for it."""

    def blurred():
        from pgolf.evaluate.neural import Plain

        def forward(tokens, starts):
            logits = TABLE[tokens]
            return logits + 0.3 * logits.cumsum(1)

        return Plain(forward)

    assert set(convictions(on_bench(blurred))) == {"L1"}
    assert convictions(on_bench(blurred, islands=False)) == {}


def test_readme_says_what_is_caught_by_what():
    text = README.read_text()
    assert table() in text, f"README.md holds this table:\n{table()}"


def table() -> str:
    """The zoo, in Markdown."""
    names = {v.rule: v.name for v in (check(Dossier()) for check in CHECKS)}
    lines = ["| what it does | seen in | rule | check |", "|---|---|---|---|"]
    for cheat in sorted(ZOO.values(), key=lambda c: (_order(c.rules[0]), c.name)):
        checks = ", ".join(names[rule].replace("_", " ") for rule in cheat.rules[:1])
        more = "".join(f", {rule}" for rule in cheat.rules[1:])
        lines.append(f"| {cheat.about} | {cheat.like} | {cheat.rules[0]}{more} | {checks} |")
    return "\n".join(lines)


def _order(rule: str) -> tuple[str, int]:
    return rule[0], int(rule[1:])
