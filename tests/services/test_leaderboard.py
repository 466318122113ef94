"""The ranking is a total order on what can be shipped, and the board is MLflow's own records."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pgolf.errors import Infeasible, StoreError
from pgolf.section import digest_of
from services.board import render
from services.leaderboard import Row, rank_rows, read_board, with_significance
from services.plots import REASON_STYLE
from services.tracking import Recorder
from services.wording import REASONS, why
from tests.services.samples import SMALL, FakeConfig, killed, make_result, over_bytes


def row(number: int, **values) -> Row:
    status = values.pop("status", "infeasible" if values.get("infeasible") else "ok")
    base = {"bpb": 2.0, "artifact_bytes": 300_000, "eval_seconds": 10.0}
    base = {**base, "config_digest": f"{number}", "round": "laptop"}
    name = f"laptop_late-{number:08x}"
    return Row(
        status=status, feasible=status == "ok", name=name, recipe="r", number=number, **{**base, **values}
    )


UNKNOWN = {"bpb": None, "artifact_bytes": None, "eval_seconds": None}
IN_ORDER = [
    row(3, bpb=1.9),
    row(9, artifact_bytes=290_000),
    row(8, eval_seconds=9.0),
    row(1, eval_seconds=10.0),
    row(7, bpb=1.5, infeasible=over_bytes(401_000)),
    row(2, bpb=1.4, infeasible=over_bytes(500_000)),
    row(6, infeasible=over_bytes(410_000), bpb=None, eval_seconds=None),
    row(4, infeasible=killed(3.3), **UNKNOWN),
    row(5, infeasible=killed(3.9), **UNKNOWN),
    row(0, status="failed", **UNKNOWN),
    row(11, status="running", **UNKNOWN),
    row(10, status="lost", **UNKNOWN),
]


def test_the_order_is_feasible_then_infeasible_by_what_is_known_and_by_violation_then_failed():
    for seed in range(20):
        shuffled = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
        assert [r.number for r in rank_rows(shuffled)] == [r.number for r in IN_ORDER]


def test_ranks_count_from_one_and_unfinished_trials_have_none():
    assert [r.rank for r in rank_rows(IN_ORDER)] == [*range(1, 11), None, None]


POINTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=9)


@given(POINTS)
def test_the_front_is_what_no_feasible_trial_beats_in_everything(points):
    rows = [
        row(i, bpb=float(b), artifact_bytes=a, eval_seconds=float(s)) for i, (b, a, s) in enumerate(points)
    ]
    on_front = {r.number for r in rank_rows(rows) if r.pareto}
    for i, p in enumerate(points):
        beaten = any(q != p and all(x <= y for x, y in zip(q, p, strict=True)) for q in points)
        assert (i in on_front) == (not beaten)


def test_an_infeasible_trial_is_never_on_the_front_nor_pushes_another_off_it():
    rows = rank_rows([row(0, bpb=2.0), row(1, bpb=1.0, infeasible=over_bytes())])
    assert [(r.number, r.pareto) for r in rows] == [(0, True), (1, False)]


def test_by_pareto_puts_the_front_first_and_leaves_the_ranks():
    rows = [
        row(0, bpb=1.0, artifact_bytes=9),
        row(1, bpb=1.5, artifact_bytes=9),
        row(2, bpb=2.0, artifact_bytes=5),
    ]
    assert [(r.number, r.rank, r.pareto) for r in rank_rows(rows, by="pareto")] == [
        (0, 1, True), (2, 3, True), (1, 2, False)
    ]  # fmt: skip


def test_p_values_come_from_seeds_of_one_config_and_a_repeated_seed_counts_once():
    rows = [row(i, config_digest="a", seed=i, bpb=1.0 + i / 1000) for i in range(3)]
    rows += [row(3 + i, config_digest="b", seed=i, bpb=1.1 + i / 1000) for i in range(3)]
    rows += [row(6 + i, config_digest="c", seed=5, bpb=1.2) for i in range(4)]
    judged = {r.number: r for r in with_significance(rank_rows(rows))}
    assert judged[0].p_value is None
    assert judged[0].significance == "leader, 3 seeds"
    assert judged[3].p_value < 1e-4
    assert judged[6].p_value is None
    assert judged[6].significance.startswith("1 seed:")


def test_replicates_are_of_one_config_on_the_same_data_and_other_texts_are_not_compared():
    def seeds(start, config, data, corpus, bpb):
        digests = {"config_digest": config, "data_digest": data, "corpus_digest": corpus}
        return [row(start + i, seed=start + i, bpb=bpb + i / 1000, **digests) for i in range(2)]

    rows = [*seeds(0, "a", "3.11/1024", "3.11", 1.0), *seeds(2, "b", "3.11/512", "3.11", 1.1),
            *seeds(4, "a", "3.12/1024", "3.12", 1.5), *seeds(6, "b", "3.11/512b", "3.11", 1.2)]  # fmt: skip
    judged = {r.number: r for r in with_significance(rank_rows(rows))}
    assert judged[0].significance == "leader, 2 seeds"
    assert judged[4].p_value is None
    assert judged[4].significance.startswith("another corpus")
    for number in (2, 6):  # another tokenizer on the same text is compared, and is no replicate of another
        assert judged[number].p_value < 0.001
        assert judged[number].significance == "Welch, 2 against 2 seeds"


def test_ranks_and_fronts_are_of_each_round_by_itself():
    rows = [row(0, round="b", bpb=2.0), row(1, round="a", bpb=1.0), row(2, round="b", bpb=1.5)]
    for by in ("deployed", "pareto"):
        ranked = [(r.round, r.number, r.rank, r.pareto) for r in rank_rows(rows, by)]
        assert ranked == [("b", 2, 1, True), ("b", 0, 2, False), ("a", 1, 1, True)]


def test_json_names_every_field_even_where_nothing_was_measured():
    made = row(0, infeasible=killed(), **UNKNOWN).json_ready()
    wanted = {"run_id", "rank", "status", "name", "recipe", "number", "bpb", "validation_bpb", "prequant_bpb"}
    wanted |= {
        "artifact_bytes",
        "eval_seconds",
        "train_seconds",
        "params",
        "config_digest",
        "data_digest",
        "seed",
        "feasible",
    }
    wanted |= {"pareto", "infeasible", "p_value", "significance"}
    assert wanted <= made.keys()
    assert made["infeasible"] == [{"reason": "gate", "measured": 3.41, "limit": 3.2}]


@pytest.fixture(scope="module")
def two_rounds(empty_mlflow, tmp_path_factory):
    store = tmp_path_factory.mktemp("rounds")
    (store / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    for name, bpbs in (("laptop", (2.2, 2.1, None)), ("single", (1.9,))):
        recorder = Recorder.open(name, store, None, SMALL)
        for number, bpb in enumerate(bpbs):
            config = FakeConfig(seed=number, model={"layers": number})
            reasons = killed() if bpb is None else []
            made = {"python": "3.11", "data": {"corpus": "c1", "tokenize": "t1"}}
            result = make_result(config, bpb=bpb, infeasible=reasons, provenance=made)
            recorder.trial_finished(number, result)
        recorder.finish()
    return store


def test_the_board_read_back_is_the_ranking_of_the_results(two_rounds):
    board = read_board(two_rounds, None, "laptop")
    assert [(r.rank, r.number, r.bpb, r.seed) for r in board] == [
        (1, 1, 2.1, 1),
        (2, 0, 2.2, 0),
        (3, 2, None, 2),
    ]
    assert {(r.data_digest, r.corpus_digest) for r in board} == {
        (digest_of({"corpus": "c1", "tokenize": "t1"}), "c1")
    }
    assert board[2].infeasible == [Infeasible(reason="gate", measured=3.41, limit=3.2)]
    assert {r.round for r in read_board(two_rounds)} == {"laptop", "single"}


def test_an_unknown_round_names_the_nearest_and_an_empty_store_is_left_empty(two_rounds, tmp_path):
    with pytest.raises(StoreError, match="did you mean 'laptop'"):
        read_board(two_rounds, None, "labtop")
    with pytest.raises(StoreError, match="none yet"):
        read_board(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def text_of(rows, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    render(rows, console, SMALL)
    return console.export_text()


def test_the_printed_board_keeps_its_numbers_whole_at_every_width():
    rows = rank_rows([r.but(validation_bpb=1.95) if r.number == 3 else r for r in IN_ORDER])
    for width in (60, 80, 100, 140):
        text = text_of(rows, width)
        assert max(map(len, text.splitlines())) <= width
        for number in ("1.9000", "1.9500", "2.0000", "290,000"):
            assert number in text
        said = " ".join(text.split())
        assert "select split" in said
        assert "the longer of both splits" in said


def test_infeasible_rows_say_why_with_numbers():
    text = text_of(rank_rows(IN_ORDER), 100)
    assert "over the byte cap: 401,000 > 400,000" in text
    assert "killed at the gate: 3.30 > 3.20 bpb" in text
    assert "failed" in text


def test_every_reason_has_its_words_and_its_mark():
    assert REASONS.keys() == REASON_STYLE.keys()
    assert why(Infeasible(reason="rules", measured=2, limit=0)) == "outside the rules: 2 > 0"
    assert why(Infeasible(reason="certificate", measured=1, limit=0)) == "failed its certificate: 1 > 0"


def test_ranking_is_the_same_whatever_the_order_of_equal_rows():
    rows = [row(n, run_id=f"{n}") for n in range(4)]
    orders = {tuple(r.number for r in rank_rows(p)) for p in itertools.permutations(rows)}
    assert orders == {(0, 1, 2, 3)}
