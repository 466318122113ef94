"""A card says whether a trial may be shipped and how to have it again; a difference says what and which."""

import pytest
from rich.console import Console

from pgolf.errors import Infeasible
from pgolf.formats.result import DeployedTuple, Result, StageResult
from services.cards import better, card, changed, difference
from services.leaderboard import rank_rows
from services.plots import pareto, progress, save
from services.wording import why
from tests.services.samples import SMALL, FakeConfig, killed, make_result, make_row, over_bytes


def text_of(renderable, width=100):
    console = Console(width=width, record=True)
    console.print(renderable)
    return console.export_text()


def test_a_card_shows_the_tuple_against_its_caps_the_stages_and_the_commands():
    result = make_result(validation_bpb=2.2)
    result = result.but(config={**result.config, "rules": SMALL.plain()})
    text = text_of(card(result, "8c0f2e1122334455"))
    for words in ("350,000", "400,000", "87.5 %", "2.1000", "2.2000", "a1b2c3d4",
                  "pgolf reproduce 8c0f2e112233", "pgolf export 8c0f2e112233 --out DIR", "layers: 4",
                  "feasible"):  # fmt: skip
        assert words in text


def test_a_card_lists_the_stages_in_the_order_of_the_pipeline_also_after_reading_them_back(tmp_path):
    names = ["corpus", "tokenize", "train", "calibrate", "quantize", "bundle", "pack", "prequant", "evaluate",
             "validate", "certify", "yet_unknown"]  # fmt: skip
    stages = {n: StageResult(key="k", cached=False, seconds=1.0, metrics={}) for n in names}
    make_result(stages=stages).write(tmp_path / "result.json")
    text = text_of(card(Result.read(tmp_path / "result.json")))
    shown = [line.split()[0] for line in text.splitlines() if line.rstrip().endswith(" made")]
    assert shown == names


def test_a_card_says_of_which_split_its_evaluation_seconds_are_and_shows_both_once_validated():
    def lines(result):
        text = text_of(card(result.but(config={**result.config, "rules": SMALL.plain()})))
        words = [" ".join(line.split()) for line in text.splitlines()]
        return [line for line in words if line.startswith("evaluation seconds")]

    def stage(seconds):
        return StageResult(key="k", cached=False, seconds=99.0, metrics={"eval_seconds": seconds})

    only = "evaluation seconds, select split 12.5 60.0 20.8 %"
    assert lines(make_result()) == [only]
    both = make_result(stages={"evaluate": stage(12.5), "validate": stage(66.0)}, eval_seconds=66.0)
    assert lines(both) == [only, "evaluation seconds, validation split 66.0 60.0 110.0 %"]


def test_a_card_of_an_infeasible_trial_says_every_reason_and_misses_nothing_it_does_not_know():
    result = make_result(infeasible=[*over_bytes(), *killed()], bpb=None)
    text = text_of(card(result))
    assert "over the byte cap: 412,300 > 400,000" in text
    assert "killed at the gate: 3.41 > 3.20 bpb" in text
    assert "ValueError: no" in text_of(card(make_result(status="failed", error="ValueError: no")))


def test_a_difference_lists_settings_that_differ_and_which_is_better():
    a, b = make_result(), make_result(FakeConfig(seed=1, model={"layers": 6, "width": 128}), bpb=2.0)
    text = text_of(difference(a, b), 130)
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "model.width" not in text
    assert lines["model.layers"].split()[1:] == ["4", "6"]
    assert lines["seed"].split()[1:] == ["0", "1"]
    assert lines["bpb"].split()[-2:] == ["-0.1000", "second"]
    assert "the same" in text_of(difference(a, a))


def test_changed_settings_are_found_at_any_depth_and_on_either_side():
    a, b = {"x": {"y": 1, "z": {"q": 2}}, "only": 1}, {"x": {"y": 1, "z": None}, "new": {"k": [1]}}
    assert changed(a, b) == [("x.z.q", (2, None)), ("only", (1, None)), ("new.k", (None, [1]))]


@pytest.mark.parametrize(
    ("name", "one", "two", "which"),
    [("bpb", 2.0, 1.9, "second"), ("eval_seconds", 1.0, 2.0, "first"),
     ("tokens_per_second", 1.0, 2.0, "second"),
     ("params", 1, 2, ""), ("bpb", 2.0, None, ""), ("bpb", 2.0, 2.0, "")],
)  # fmt: skip
def test_better_knows_the_direction_of_each_metric(name, one, two, which):
    assert better(name, one, two) == which


def test_a_reason_tells_its_two_numbers_apart_however_close():
    assert (
        why(Infeasible(reason="gate", measured=3.2004, limit=3.2))
        == "killed at the gate: 3.2004 > 3.2000 bpb"
    )
    assert why(Infeasible(reason="artifact_bytes", measured=400001, limit=400000)).endswith(
        "400,001 > 400,000"
    )
    assert why(Infeasible(reason="diverged", measured=None, limit=10)) == "diverged: not a number"


def test_the_pictures_draw_from_no_trial_to_many(tmp_path):
    for count in (0, 1, 12):
        results = [
            make_result(bpb=2.0 + n / 10, infeasible=over_bytes() if n % 4 == 3 else []) for n in range(count)
        ]
        rows = rank_rows(make_row(r, number=n) for n, r in enumerate(results))
        for name, draw in (("progress", progress), ("pareto", pareto)):
            save(draw(rows, SMALL), tmp_path / f"{name}{count}.png")
            assert (tmp_path / f"{name}{count}.png").stat().st_size > 5000


def test_the_progress_picture_marks_each_infeasible_trial_by_its_reason_and_draws_the_best_so_far():
    outcomes = [{"bpb": 2.3}, {"bpb": 2.1}, {"infeasible": over_bytes()},
                {"infeasible": killed(), "bpb": None}, {"bpb": 2.2}]  # fmt: skip
    rows = rank_rows(make_row(make_result(**o), number=n) for n, o in enumerate(outcomes))
    figure = progress(rows, SMALL)
    main, strip = figure.axes
    assert list(main.lines[0].get_ydata()) == [2.3, 2.1, 2.1, 2.1]
    marked = {c.get_label(): [x for x, _ in c.get_offsets()] for c in strip.collections}
    assert marked == {"over the byte cap": [2.0], "killed at the gate": [3.0]}
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words == ["feasible trial", "best so far", *marked]


def test_the_pareto_picture_draws_the_cap_and_only_the_feasible_stairs():
    shapes = [(2.3, 200_000), (2.1, 350_000), (1.9, 450_000)]
    rows = rank_rows(
        make_row(make_result(bpb=b, artifact_bytes=s, infeasible=over_bytes(s) if s > 400_000 else [],
                             tuple=DeployedTuple()), number=n)
        for n, (b, s) in enumerate(shapes)
    )  # fmt: skip
    axes = pareto(rows, SMALL).axes[0]
    stairs, cap = axes.lines
    assert list(stairs.get_xdata()) == [200_000, 350_000]
    assert list(cap.get_xdata()) == [400_000, 400_000]
    assert axes.get_xlim()[1] > 450_000
