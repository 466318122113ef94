"""Text that the model writes itself: a text is its seed's, drawn as the model predicts, from no data at all."""

import math

import pytest
import torch
from pydantic import ValidationError

from pgolf.formats.checkpoint import Checkpoint
from pgolf.formats.shards import BOS
from pgolf.quantize.calibrate import CALIBRATE, Calibrate, Fisher
from pgolf.quantize.self_generated import SelfGenerated
from pgolf.quantize.statistics import Statistics
from pgolf.runtime import Runtime
from tests.nets import VOCAB, network, small


@pytest.fixture(scope="module")
def net():
    return network(small(), std=0.25)


def test_a_text_is_a_document_that_begins_once(net):
    tokens, starts = SelfGenerated().rows(net, list(range(50)), 9)
    assert (tokens.shape, tokens.dtype) == ((50, 9), torch.int64)
    assert (tokens[:, 0] == BOS).all()
    assert tokens.min() >= 0
    assert tokens.max() < VOCAB
    assert starts[:, 0].all()
    assert starts.sum() == 50, "even where the model wrote the token that begins documents"
    assert (tokens[:, 1:] == BOS).any()


def test_a_text_is_its_seeds_alone(net):
    made, _ = SelfGenerated().rows(net, [3, 4, 5], 12)
    assert torch.equal(made, SelfGenerated().rows(net, [3, 4, 5], 12)[0])
    for i, seed in enumerate((3, 4, 5)):
        assert torch.equal(SelfGenerated().rows(net, [seed], 12)[0][0], made[i]), (
            "whoever is written beside it"
        )
    assert torch.equal(SelfGenerated().rows(net, [5, 3], 12)[0], made[[2, 0]])
    assert not torch.equal(made[0], made[1])
    longer, _ = SelfGenerated().rows(net, [3], 20)
    assert torch.equal(longer[0, :12], made[0]), "and goes on as it began"


def test_no_text_and_the_shortest_text_are_written(net):
    assert SelfGenerated().rows(net, [], 8)[0].shape == (0, 8)
    assert SelfGenerated().rows(net, [1], 2)[0].shape == (1, 2)


def test_the_first_token_is_any_as_likely_as_another(net):
    n = 4800
    tokens, _ = SelfGenerated(temperature=0.01).rows(net, list(range(n)), 2)
    counts = torch.bincount(tokens[:, 1], minlength=VOCAB).double()
    expected = n / VOCAB
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < VOCAB - 1 + 5 * (2 * (VOCAB - 1)) ** 0.5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_what_follows_is_drawn_from_the_softmax_over_the_temperature(net, temperature):
    """Third tokens, counted by the second: a chi-square over all pairs that can be expected to be seen."""
    n = 6000
    tokens, _ = SelfGenerated(temperature=temperature).rows(net, list(range(n)), 3)
    pasts = torch.stack([torch.full((VOCAB,), BOS), torch.arange(VOCAB)], 1)
    starts = torch.zeros_like(pasts, dtype=torch.bool)
    starts[:, 0] = True
    with torch.inference_mode():
        logits = net(pasts, starts)[:, -1].double()
    seen = torch.zeros(VOCAB, VOCAB, dtype=torch.float64)
    for second, third in tokens[:, 1:].tolist():
        seen[second, third] += 1
    scaled = [softmax(row, temperature) for row in logits.tolist()]
    expected = torch.tensor(scaled, dtype=torch.float64) * seen.sum(1, keepdim=True)
    enough = expected > 4
    chi2 = float(((seen - expected)[enough].square() / expected[enough]).sum())
    assert enough.sum() > 100
    assert chi2 < int(enough.sum()) + 5 * (2 * int(enough.sum())) ** 0.5


def softmax(logits: list[float], temperature: float) -> list[float]:
    """A softmax by hand."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    return [w / sum(weights) for w in weights]


def test_the_coldest_text_is_the_likeliest(net):
    tokens, starts = SelfGenerated(temperature=1e-4).rows(net, [1, 2, 3], 8)
    with torch.inference_mode():
        likeliest = net(tokens, starts).argmax(-1)
    assert torch.equal(tokens[:, 2:], likeliest[:, 1:-1])


def test_calibrating_on_it_touches_no_data_and_spends_no_training_second(net, tmp_path):
    (tmp_path / "in").mkdir(), (tmp_path / "out").mkdir()
    config = small()
    Checkpoint(config.plain(), VOCAB, dict(net.named_parameters())).write(tmp_path / "in")
    calibrate = Calibrate(tokens=80, context=8, source=SelfGenerated(), fisher=Fisher(tokens=80))
    metrics = CALIBRATE.run(
        tmp_path / "in", tmp_path / "no tokens here", out=tmp_path / "out", runtime=Runtime(), seed=5,
        calibrate=calibrate,
    )  # fmt: skip
    assert metrics["train_seconds"] == 0.0
    assert metrics["calibrate_seconds"] > 0
    assert metrics["tokens"] == 80
    known = Statistics.read(tmp_path / "out")
    tokens, starts = SelfGenerated().rows(net, [5 + 1_000_003 + row for row in range(10)], 8)
    seen = []
    with (
        torch.inference_mode(),
        net.observed(lambda n, x: seen.append(x) if n == "embedding.weight" else None),
    ):
        net(tokens, starts)
    x = torch.cat(seen).flatten(0, -2).double()
    torch.testing.assert_close(
        known.hessians["embedding.weight"].double(), x.T @ x / 80, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("change", [{"temperature": 0}, {"temperature": -1}, {"top_k": 3}])
def test_an_impossible_or_misspelt_setting_is_refused(change):
    with pytest.raises(ValidationError):
        SelfGenerated(**change)
