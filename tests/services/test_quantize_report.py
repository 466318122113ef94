"""A report's numbers by hand, against slow twins, and on trials run whole; what was not measured is not there."""

import json
import shutil
from itertools import pairwise

import pytest
import torch

from pgolf.cli import main
from pgolf.data.starts import document_starts
from pgolf.errors import UserError
from pgolf.formats.blob import ARTIFACT
from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.quantized import GroupedMatrix, QuantizedMatrix, QuantizedModel
from pgolf.formats.result import Result
from pgolf.formats.shards import read_split
from pgolf.model.gpt import assemble
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pipeline import run_trial
from pgolf.quantize.calibrate import Fisher
from pgolf.quantize.rate_distortion import RateDistortion
from pgolf.quantize.statistics import Statistics, predicted_loss
from pgolf.runtime import Runtime
from pgolf.stage import Store, sha256_of
from services.plots import DOTS_PER_INCH, save
from services.quantize_picture import picture, short
from services.quantize_report import (
    ALL,
    Divergence,
    Measurement,
    QuantizeReport,
    TensorReport,
    divergences,
    evenly,
    quantize_report,
    sensitivity,
    step_over_deviation,
    together,
)
from services.quantize_tables import FILES, markdown, mnats, render
from tests.nets import VOCAB, network, stream
from tests.services.test_cards import text_of
from tests.services.test_coded_sizes import model as quantized_model
from tests.services.test_coded_sizes import scaled, sizes_of

PREDICTED = {"sensitivity", "predicted_loss_nats", "measured_over_predicted"}
MEASURED = {"measured_kl_nats", "measured_kl_nats_se", "measured_over_predicted"}


# --------------------------------------------------------------------------------- by hand

pytestmark = pytest.mark.xdist_group("quantize-report")


def test_a_step_is_compared_with_its_row_s_deviation():
    """Rows +-1 and +-4 have deviations 1 and 4; steps 1/8 and 1/4 are 3 and 4 octaves below. A constant row is none."""
    w = torch.tensor([[1.0, -1.0], [4.0, -4.0], [7.0, 7.0]])
    codes = torch.zeros(3, 2).short()
    assert step_over_deviation(QuantizedMatrix(codes, torch.tensor([-24, -16, 0]).short()), w) == -3.5
    by_column = QuantizedMatrix(codes, torch.tensor([-24, -16, 0]).short(), torch.tensor([8, 0]).short())
    assert step_over_deviation(by_column, w) == -3.0, "one octave coarser in half of the columns"
    assert step_over_deviation(QuantizedMatrix(codes[:1], torch.tensor([0]).short()), w[2:]) is None
    assert step_over_deviation(GroupedMatrix(codes, torch.ones(1).half(), 6), w) is None


@pytest.mark.parametrize("has", ["rows", "rows and inputs", "both sides of the table"])
def test_sensitivity_is_the_prediction_s_mean_over_every_single_weight(has):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, 5, generator=generator), torch.randn(9, 5, generator=generator)
    s = Statistics(
        hessians={"w": x.T @ x} if has != "rows" else {},
        lookups={"w": y.T @ y} if has.startswith("both") else {},
        rows={"w": torch.rand(4, generator=generator)},
    )
    alone = [predicted_loss("w", e.view(4, 5), s) for e in torch.eye(20)]
    assert sensitivity("w", s) == pytest.approx(sum(alone) / 20)
    assert sensitivity("another", s) is None


def test_sequences_are_spread_over_the_stream_and_disjoint():
    ids = torch.arange(103).numpy().astype("uint16")
    assert evenly(ids, 3, 10)[:, 0].tolist() == [0, 40, 90]
    assert evenly(ids, 99, 10)[:, 0].tolist() == list(range(0, 100, 10)), "no more than there are"
    assert evenly(ids[:7], 4, 10).tolist() == [list(range(7))], "a stream shorter than the context is one"


def test_a_divergence_is_what_two_networks_say_of_one_text():
    float_model = network()
    text = torch.cat([stream(seed, 12, 2) for seed in range(3)])
    weights = {n: p.detach().clone() for n, p in float_model.named_parameters()}
    name = next(n for n in weights if n.endswith("up.weight"))
    moved = {
        name: weights[name]
        + 0.1 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(1))
    }
    seen = []
    found = divergences(
        float_model, {"moved": moved, "same": {name: weights[name]}}, text, lambda *at: seen.append(at[1:])
    )

    twin = network()
    twin.load_state_dict(weights | moved)
    with torch.no_grad():
        p, q = (m(text, document_starts(text)).double().log_softmax(2) for m in (float_model, twin))
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(2).mean(1)
    assert found["moved"].kl_nats == pytest.approx(float(kl.mean()))
    assert found["moved"].kl_nats_se == pytest.approx(float(kl.std() / 3**0.5))
    assert found["moved"].kl_nats > 1e-4
    assert found["same"].kl_nats == 0.0
    assert all(torch.equal(p, weights[n]) for n, p in float_model.named_parameters()), (
        "and it is left as it was"
    )
    assert seen[-1] == (2, 2)
    assert divergences(float_model, {"moved": moved}, text[:1])["moved"].kl_nats_se is None


def test_text_in_parts_gives_what_text_at_once_does(monkeypatch):
    float_model, text = network(), torch.cat([stream(seed, 12, 2) for seed in range(5)])
    change = {
        "moved": {"embedding.weight": torch.randn(VOCAB, 16, generator=torch.Generator().manual_seed(2))}
    }
    whole = divergences(float_model, change, text)["moved"]
    monkeypatch.setattr("services.quantize_report.TOKENS_AT_ONCE", 24)
    assert divergences(float_model, change, text)["moved"].kl_nats == pytest.approx(whole.kl_nats)


def row(**changes) -> TensorReport:
    given = {
        "name": "blocks.0.mlp.up.weight", "role": "mlp", "kind": "scaled", "shape": (4, 25), "weights": 100,
        "coded_bytes": 40.0, "step_bytes": 4.0, "ideal_bytes": 45.0, "squared_error": 0.5, "power": 100.0,
        "log2_step_over_deviation": -1.0, "sensitivity": 4e-3, "predicted_loss_nats": 2e-3,
        "measured": Divergence(3e-3, 1e-4),
    }  # fmt: skip
    return TensorReport(**(given | changes))


def test_a_row_s_ratios_by_hand():
    plain = row().plain()
    assert plain["bits_per_weight"] == 3.2
    assert plain["entropy_bits_per_weight"] == 3.6
    assert plain["coded_over_ideal"] == 0.8, "36 bytes of codes for an ideal of 45"
    assert plain["relative_squared_error"] == 0.005
    assert plain["measured_over_predicted"] == pytest.approx(1.5)


def test_rows_add_up_and_a_sum_that_lacks_a_part_is_absent():
    other = row(
        name="b", weights=300, coded_bytes=60.0, log2_step_over_deviation=-3.0, predicted_loss_nats=4e-3
    )
    both = together("mlp", [row(), other])
    assert (both.weights, both.coded_bytes, both.tensors) == (400, 100.0, 2)
    assert both.bits_per_weight == 2.0
    assert both.log2_step_over_deviation == pytest.approx(-2.5), "by weight"
    assert both.predicted_loss_nats == pytest.approx(6e-3)
    assert both.measured == Divergence(pytest.approx(6e-3), None)
    lacking = together("mlp", [row(), row(predicted_loss_nats=None, measured=None)])
    assert lacking.predicted_loss_nats is None
    assert lacking.measured is None
    assert not (PREDICTED - {"sensitivity"} | MEASURED) & lacking.plain().keys()


def test_what_is_not_known_is_not_there_rather_than_zero():
    bare = row(sensitivity=None, predicted_loss_nats=None, measured=None, ideal_bytes=0.0, power=0.0)
    assert not (PREDICTED | MEASURED | {"coded_over_ideal", "relative_squared_error"}) & bare.plain().keys()
    assert row(predicted_loss_nats=0.0).measured_over_predicted is None


@pytest.mark.parametrize(
    ("nats", "said"), [(4.1234e-4, "0.412"), (0.0123, "12.3"), (0.5, "500"), (None, "-")]
)
def test_losses_are_said_in_thousandths_of_a_nat(nats, said):
    assert mnats(nats) == said


# ------------------------------------------------------------------------------ of whole trials


@pytest.fixture(scope="module")
def solved(tiny_trial, tmp_path_factory) -> tuple[Result, Store]:
    """The finished trial, quantized again: solved for bytes on Fisher statistics, coded by ANS."""
    place = tmp_path_factory.mktemp("solved") / "store"
    shutil.copytree(tiny_trial.store.directory, place)
    config = tiny_trial.config.but(
        calibrate=tiny_trial.config.calibrate.but(fisher=Fisher(tokens=2048)),
        quantize=RateDistortion(target_bytes=tiny_trial.result.code_bytes + 22_000),
        pack=AnsPacker(),
    )
    result = run_trial(config, Store(place), Runtime())
    assert result.status == "ok", result.infeasible
    return result, Store(place)


@pytest.fixture(scope="module")
def report(solved) -> QuantizeReport:
    return quantize_report(*solved, sequences=24)


@pytest.fixture
def own(solved, tmp_path) -> tuple[Result, Store]:
    """A copy that a test may spoil."""
    result, store = solved
    shutil.copytree(store.directory, tmp_path / "store")
    return result, Store(tmp_path / "store")


def stage_path(solved, name):
    result, store = solved
    return store.find(name, result.stages[name].key).path


@pytest.mark.heavy
def test_every_quantized_tensor_has_its_row_in_the_network_s_order(solved, report):
    quantized = QuantizedModel.read(stage_path(solved, "quantize"))
    assert [t.name for t in report.tensors] == list(quantized.matrices)
    for t in report.tensors:
        m = quantized.matrices[t.name]
        assert (t.role, t.shape, t.weights, t.kind) == (
            quantized.roles[t.name],
            m.shape,
            m.q.numel(),
            "scaled",
        )
        assert 0 < t.step_bytes < t.coded_bytes
        assert 0.7 < t.coded_over_ideal < 1.2
        assert t.plain().keys() >= MEASURED | PREDICTED


@pytest.mark.heavy
def test_bytes_add_up_to_the_artifact_on_record(solved, report):
    s, result = report.sizes, solved[0]
    assert s.header + s.codes + s.halves == result.model_bytes
    assert report.whole.coded_bytes == pytest.approx(s.codes, abs=8)
    assert sum(r.coded_bytes for r in report.roles) == pytest.approx(report.whole.coded_bytes)
    assert {r.name for r in report.roles} == {"embedding", "attention", "mlp"}


@pytest.mark.heavy
def test_errors_and_predictions_are_the_quantize_stage_s_own(solved, report):
    stored = json.loads((stage_path(solved, "quantize") / "report.json").read_text())
    for t in report.tensors:
        assert t.predicted_loss_nats == pytest.approx(stored[t.name]["predicted_loss_nats"])
    metrics = solved[0].stages["quantize"].metrics
    for r in report.roles:
        assert r.relative_squared_error == pytest.approx(metrics[f"relative_error_{r.name}"])


@pytest.mark.heavy
def test_measured_losses_are_those_of_the_model_with_one_tensor_replaced(solved, report):
    trained = Checkpoint.read(stage_path(solved, "train"))
    quantized = QuantizedModel.read(stage_path(solved, "quantize"))
    text = evenly(read_split(stage_path(solved, "tokenize"), "select")[0], 24, 64)

    @torch.no_grad()
    def said(weights):
        network = assemble(trained.model, trained.vocab_size, weights, "cpu")
        return network(text, document_starts(text)).double().log_softmax(2)

    p = said(trained.weights)
    t = report.tensors[3]
    for weights, found in (
        ({**trained.weights, t.name: quantized.matrices[t.name].dequantize()}, t.measured),
        (quantized.weights(), report.deployed),
    ):
        kl = (p.exp() * (p - said(weights))).sum(2).mean(1)
        assert found.kl_nats == pytest.approx(float(kl.mean()), rel=1e-4)
        assert found.kl_nats_se == pytest.approx(float(kl.std() / 24**0.5), rel=1e-3)
    assert report.measurement == Measurement(24, 64, "cpu")


@pytest.mark.heavy
def test_what_the_statistics_foresee_is_what_happens(report):
    """On 2048 tokens of a network that hardly learned; a factor of 2 (a missing 1/2) would not pass."""
    assert 0.6 < report.deployed_over_predicted < 1.6
    assert 0.6 < report.whole.measured_over_predicted < 1.6


@pytest.mark.heavy
def test_without_fisher_statistics_nothing_is_predicted_and_without_measuring_no_text_is_read(
    tiny_trial, own
):
    plain = quantize_report(tiny_trial.result, tiny_trial.store, sequences=2)
    assert not any((PREDICTED - {"measured_over_predicted"}) & t.plain().keys() for t in plain.tensors)
    assert all("measured_kl_nats" in t.plain() for t in plain.tensors)
    assert plain.whole.coded_bytes == pytest.approx(plain.sizes.codes - 1 - 5 * 4), "four streams, framed"
    said = text_of(render(plain), 150)
    assert "predicted" not in said
    assert "no prediction: calibration took no Fisher" in said
    assert "codec brotli does not code tensor by tensor" in said

    result, store = own
    shutil.rmtree(store.directory / "tokenize")
    bare = quantize_report(result, store, sequences=None)
    assert bare.deployed is None and bare.measurement is None
    assert not any(MEASURED & t.plain().keys() for t in bare.tensors)
    assert "measured" not in text_of(render(bare), 150)
    assert "deployed" not in bare.plain()


# ------------------------------------------------------------------------------------- mistakes


def refused(result, store, **how) -> str:
    with pytest.raises(UserError) as caught:
        quantize_report(result, store, **how)
    assert len(str(caught.value).splitlines()) == 3
    return str(caught.value)


@pytest.mark.heavy
@pytest.mark.parametrize("stage", ["train", "calibrate", "quantize", "pack", "tokenize"])
def test_a_stage_that_the_store_lost_is_named(own, stage):
    result, store = own
    shutil.rmtree(store.directory / stage / result.stages[stage].key)
    said = refused(result, store)
    assert f"{stage}/{result.stages[stage].key}" in said
    assert "pgolf run" in said


@pytest.mark.heavy
def test_a_trial_that_quantized_nothing_says_what_stopped_it(own):
    result, store = own
    stopped = {name: stage for name, stage in result.stages.items() if name in ("corpus", "tokenize")}
    killed = result.but(stages=stopped, status="infeasible",
                        infeasible=[{"reason": "gate", "measured": 5.0, "limit": 4.0}])  # fmt: skip
    assert "killed at the gate: 5.00 > 4.00" in refused(killed, store)


@pytest.mark.heavy
def test_an_artifact_of_another_container_and_another_artifact_are_refused(own):
    result, store = own
    file = stage_path(own, "pack") / ARTIFACT
    data = bytearray(file.read_bytes())
    data[7] = 1
    file.write_bytes(data)
    assert "its version" in refused(result, store)
    data[7] = 2
    file.write_bytes(data)
    assert "on record" in refused(result.but(artifact_sha256="0" * 64), store)
    assert quantize_report(result, store, sequences=None).artifact_sha256 == sha256_of(file)


# -------------------------------------------------------------------------------------- showing


def many(count: int, predicted: bool = True, measured: bool = True) -> QuantizeReport:
    """A network's worth of rows of growing loss, over all roles."""
    roles = ("embedding", "attention", "mlp", "table", "projection", "gate")
    rows = tuple(
        row(name=f"blocks.{i}.part.weight", role=roles[i % 6], coded_bytes=30.0 + i,
            predicted_loss_nats=1e-6 * 1.1**i if predicted else None,
            measured=Divergence(1.2e-6 * 1.1**i, 1e-7) if measured else None)
        for i in range(count)
    )  # fmt: skip
    seen = (Measurement(8, 64, "cpu"), Divergence(1e-3, 1e-5)) if measured else (None, None)
    return QuantizeReport("many", "rtn", "0" * 64, sizes_of(quantized_model(mlp_a=scaled(1)))[0], rows, *seen)


@pytest.mark.parametrize(
    ("predicted", "measured", "titles"),
    [(True, True, ["Bits", "Loss", "Predicted against measured"]), (True, False, ["Bits", "Loss"]),
     (False, True, ["Bits", "Loss"]), (False, False, ["Bits"])],
)  # fmt: skip
def test_the_picture_has_the_panels_that_there_are_numbers_for(predicted, measured, titles, tmp_path):
    figure = picture(many(7, predicted, measured))
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert ("predicted" in words, "measured ± standard error" in words) == (predicted, measured)
    save(figure, tmp_path / "p.png")


def test_the_picture_draws_every_tensor_in_order_legible_and_uncut(tmp_path):
    figure = picture(many(66))
    save(figure, tmp_path / "p.png")
    figure.dpi = DOTS_PER_INCH
    figure.canvas.draw()
    bars, losses, foreseen = figure.axes
    assert [t.get_text() for t in bars.get_yticklabels()] == [f"{i}.part" for i in range(66)]
    assert [p.get_width() for p in bars.patches] == [t.bits_per_weight for t in many(66).tensors]
    assert bars.yaxis_inverted(), "the first tensor on top"
    boxes = [t.get_window_extent() for t in bars.get_yticklabels()]
    assert all(a.y0 - b.y0 > 1.3 * a.height for a, b in pairwise(boxes)), "a third of a line between names"
    assert min(b.x0 for b in boxes) >= 0
    low, high = foreseen.get_xlim()
    assert low < 1e-3 and high > 1e-3 * 1.2 * 1.1**65
    assert foreseen.get_ylim() == (low, high), "so that the diagonal is one"
    assert losses.get_xscale() == foreseen.get_yscale() == "log"


def test_a_loss_of_nothing_is_left_out_of_a_log_scale(tmp_path):
    tensors = (row(predicted_loss_nats=0.0, measured=Divergence(0.0, None)), row(name="other"))
    report = QuantizeReport(
        "r", "rtn", "0", many(1).sizes, tensors, Measurement(1, 8, "cpu"), Divergence(0.0, None)
    )
    figure = picture(report)
    save(figure, tmp_path / "p.png")
    assert len(figure.axes[2].containers) == 1


def test_the_document_has_a_line_for_every_tensor_and_role_and_whole_names():
    lines = markdown(many(12)).splitlines()
    (head,) = [i for i, line in enumerate(lines) if line.startswith("| tensor |")]
    assert [line.split(" | ")[0] for line in lines[head + 2 :]] == [
        f"| blocks.{i}.part.weight" for i in range(12)
    ]
    assert len({line.count("|") for line in lines[head:]}) == 1
    assert sum(line.startswith("| all |") for line in lines) == 1
    assert short("blocks.3.attention.q.weight") == "3.attention.q"


@pytest.mark.heavy
def test_the_command_prints_the_tables_and_says_where_it_wrote(solved, tmp_path, capsys, monkeypatch):
    result, store = solved
    result.write(tmp_path / "result.json")
    monkeypatch.chdir(tmp_path)

    def run(*options, exit_code=None) -> str:
        monkeypatch.setattr(
            "sys.argv", ["pgolf", "quantize-report", "result.json", "--store", str(store.directory), *options]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == exit_code
        told = capsys.readouterr()
        return told.err if exit_code else told.out

    said = run("--sequences", "2")
    where = tmp_path / "runs" / f"{result.name}-seed42" / "quantize-report"
    assert {f.name for f in where.iterdir()} == set(FILES)
    assert str(where.relative_to(tmp_path)) in said
    for words in ("1.attention.q", "all at once, as deployed", "2 x 64 tokens of the select split"):
        assert words in said
    plain = json.loads(run("--no-measure", "--json", "--out", "there"))
    assert plain == json.loads((tmp_path / "there" / FILES[0]).read_text())
    assert "deployed" not in plain
    assert len(plain["tensors"]) == 13
    assert ALL not in {t["name"] for t in plain["tensors"]}
    assert "result.json is a file" in run("--out", "result.json", exit_code=2)
