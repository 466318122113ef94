"""SGD on the stream against a twin that knows torch.optim and one chunk after the other."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pgolf.data.starts import document_starts
from pgolf.errors import ConfigError
from pgolf.evaluate.predictor import Extent
from pgolf.evaluate.ttt.descent import DescentSection
from pgolf.evaluate.ttt.row_optimizer import Momentum
from pgolf.evaluate.ttt.stream_sgd import StreamSgd
from pgolf.model.gpt import Gpt
from pgolf.model.roles import Role
from tests.evaluate.ttt.cases import MODES, SGD, TOKENS, net, scored, usual
from tests.evaluate.ttt.slow_optimizers import optimizer


def nats(built: Gpt, begin: int, end: int) -> torch.Tensor:
    """Of targets begin + 1 .. end, seen from `begin` on."""
    row = torch.from_numpy(TOKENS[begin : end + 1].astype(np.int64)).unsqueeze(0)
    logits = built(row[:, :-1], document_starts(row[:, :-1]))[0]
    return F.cross_entropy(logits, row[0, 1:], reduction="none")


def descend(
    built: Gpt, section: DescentSection, steps: torch.optim.Optimizer, chunk: range, lr: float
) -> None:
    """Epochs over a chunk of inputs, `rows` sequences a step."""
    steps.param_groups[0]["lr"] = lr
    trained = [p for group in steps.param_groups for p in group["params"]]
    spans = [
        (at, min(at + section.sequence_tokens, chunk.stop))
        for at in range(chunk.start, chunk.stop, section.sequence_tokens)
    ]
    for _ in range(section.epochs):
        for at in range(0, len(spans), section.rows):
            steps.zero_grad()
            torch.cat([nats(built, *span) for span in spans[at : at + section.rows]]).mean().backward()
            torch.nn.utils.clip_grad_norm_(trained, section.clip_norm)
            steps.step()


def slow(section: StreamSgd, context: int, stride: int) -> np.ndarray:
    built, nll = net(), np.zeros(len(TOKENS))
    names = dict(built.named_parameters())
    trained = [
        p for name, p in names.items()
        if not any(name.startswith(f"blocks.{n}.") for n in range(section.freeze_first))
        and (section.parameters != "no_embedding" or built.roles[name] is not Role.EMBEDDING)
        and (section.parameters != "scalars" or built.roles[name] in (Role.CONTROL, Role.GATE))
    ]  # fmt: skip
    matrices = [names[name] for name in names if name.endswith("weight") and name.startswith("blocks.")]
    steps = optimizer(section.optimizer, trained, 1.0, matrices)
    inputs, at, chunk, begun = len(TOKENS) - 1, 0, 0, 0
    ends = list(range(section.chunk_tokens, inputs, section.chunk_tokens))
    scored_by = [*range(context, inputs, stride)]  # of all windows but the last
    chunks = 1 + sum(any(e <= at for at in scored_by) for e in ends)
    while at < inputs:
        end = min(context if at == 0 else at + stride, inputs)
        with torch.no_grad():
            nll[at + 1 : end + 1] = nats(built, max(end - context, 0), end)[at - end :]
        at = end
        if ends and at >= ends[0] and at < inputs:
            lr = section.lr * (1 + math.cos(math.pi * chunk / (chunks - 1))) / 2
            descend(built, section, steps, range(begun, at), lr)
            ends, chunk, begun = ends[1:], chunk + 1, at
    return nll


SECTIONS = {
    "usual": MODES["stream"].ttt,
    "frozen": MODES["stream"].ttt.but(freeze_first=2, epochs=1),
    "no-embedding": MODES["stream"].ttt.but(parameters="no_embedding", optimizer=Momentum(momentum=0.0)),
    "scalars": MODES["stream"].ttt.but(parameters="scalars", clip_norm=0.1),
    "decay": MODES["stream"].ttt.but(optimizer=Momentum(momentum=0.5, weight_decay=0.5)),
    **{kind: MODES[f"stream-{kind}"].ttt for kind in ("adamw", "rmsprop", "muon")},
    "muon-scalars": MODES["stream-muon"].ttt.but(parameters="scalars"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_it_is_the_twin(name):
    mode = MODES["stream"].but(ttt=SECTIONS[name])
    got, expected = scored(mode).nll, slow(SECTIONS[name], 16, 4)
    assert np.abs(got - expected).max() < 1e-3
    assert abs(got - expected).mean() < 1e-5
    assert np.abs(got - usual("stream").nll).max() > 0.01 or name == "usual"


def test_a_boundary_in_the_last_window_is_no_chunk_of_the_schedule():
    """Windows end at 40, 80, 116 and 119: boundaries at 39, 78 and 117 train as those at 40 and 80 do."""
    late = MODES["stream"].but(ttt=SECTIONS["usual"].but(chunk_tokens=39))
    assert np.array_equal(scored(late).nll, usual("stream").nll)


def test_the_weights_are_the_artifacts_again_when_a_stream_begins():
    built = net()
    predictor = MODES["stream"].predictor(built)
    extent = Extent(100, np.array([0]), (50, 99))
    predictor.begin(extent)
    predictor.descent.chunk([torch.arange(20)], 0.1)
    weights = dict(built.named_parameters())
    adapted = dict(predictor.base.network.named_parameters())
    assert not any(
        torch.equal(p, adapted[name]) for name, p in weights.items() if p.ndim == 2 and p.shape[0] > 16
    )
    predictor.begin(extent)
    assert all(torch.equal(p, adapted[name]) for name, p in weights.items())


def test_what_is_frozen_stays_and_more_than_there_is_cannot_be():
    built = net()
    predictor = MODES["stream-documents"].predictor(built)
    trained = {id(p) for p in predictor.descent.trained}
    network = predictor.base.network
    frozen = {name for name, p in network.named_parameters() if id(p) not in trained}
    assert frozen == {
        "embedding.weight",
        *(n for n, _ in built.named_parameters() if n.startswith("blocks.0.")),
    }
    with pytest.raises(ConfigError, match="counts stored blocks"):
        MODES["stream"].but(ttt=StreamSgd(**SGD, freeze_first=4)).predictor(built)
