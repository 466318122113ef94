"""The Fisher information of outputs and look-ups, against its definition: every token by itself, every label there is.

The twin runs one row at a time and differentiates one position's loss at a time. It knows the labels that were
drawn, or takes the expectation over all of them: p(v) (d log p(v) / dy)^2, summed over positions and labels, since
labels of different positions are drawn independently and have scores of mean zero.
"""

import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from pgolf.data.loader import Windows
from pgolf.formats.checkpoint import Checkpoint
from pgolf.model.gpt import Gpt
from pgolf.model.linear import Linear
from pgolf.model.recurrence import Recurrence
from pgolf.model.roles import Role
from pgolf.quantize.calibrate import CALIBRATE, ELSEWHERE, TABLE, Calibrate, Fisher, _fisher, _moments
from pgolf.quantize.statistics import RARE, Statistics
from pgolf.runtime import Runtime
from tests.nets import VOCAB, everything, network, small
from tests.train.conftest import written

CONTEXT, ROWS, SEED = 6, 10, 3
HERE = Runtime()
LOOPED = small(recurrence=Recurrence(first=1, last=1, passes=2))  # a block that is executed twice


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("tokens"))


def rows_of(tokens: Path, count: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    batch = next(iter(Windows(tokens, CONTEXT, count, SEED + ELSEWHERE)))
    return batch.tokens, batch.starts


def measured(net: Gpt, tokens: Path, work: Path, **fisher: object) -> Statistics:
    """By the stage, on ROWS rows."""
    (work / "in").mkdir(parents=True), (work / "out").mkdir()
    Checkpoint(net.config.plain(), VOCAB, {n: p.detach() for n, p in net.named_parameters()}).write(
        work / "in"
    )
    section = Calibrate(
        tokens=ROWS * CONTEXT, context=CONTEXT, fisher=Fisher(tokens=ROWS * CONTEXT, **fisher)
    )
    CALIBRATE.run(work / "in", tokens, out=work / "out", runtime=HERE, seed=SEED, calibrate=section)
    return Statistics.read(work / "out")


class Watched:
    """A forward pass with every matrix's inputs and outputs, execution by execution, and the looked-up rows."""

    def __init__(self, net: Gpt, tokens: torch.Tensor, starts: torch.Tensor) -> None:
        self.inputs, self.outputs = defaultdict(list), defaultdict(list)
        handles = [
            module.register_forward_hook(self._noting(f"{name}.weight"))
            for name, module in net.named_modules()
            if isinstance(module, Linear)
        ]
        self.lookups: list[torch.Tensor] = []
        if net.embedding.into is None:
            hook = net.embedding.register_forward_hook(lambda _, __, out: self.lookups.append(out))
        else:
            hook = net.embedding.into.register_forward_pre_hook(
                lambda _, given: self.lookups.append(given[0])
            )
        handles.append(hook)
        self.logits = net(tokens, starts).double()
        for handle in handles:
            handle.remove()

    def _noting(self, name: str):
        def note(_, given, out):
            self.inputs[name].append(given[0].detach().double())
            self.outputs[name].append(out)

        return note

    def gradients(self, of: torch.Tensor) -> tuple[dict[str, list[torch.Tensor]], torch.Tensor]:
        """By matrix and execution [rows, time, out]; and of the looked-up rows."""
        flat = [out for outs in self.outputs.values() for out in outs] + self.lookups
        found = torch.autograd.grad(of, flat, retain_graph=True, allow_unused=True)
        filled = iter([torch.zeros_like(t) if g is None else g for t, g in zip(flat, found, strict=True)])
        by_name = {name: [next(filled).double() for _ in outs] for name, outs in self.outputs.items()}
        return by_name, next(filled).double()

    def of_weights(self, gradients: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Gradients of the matrices themselves [rows, out, in]: executions and tokens added up, row by row."""
        return {
            name: sum(torch.einsum("rto,rti->roi", g, x) for g, x in zip(gs, self.inputs[name], strict=True))
            for name, gs in gradients.items()
        }


def drawn(net: Gpt, tokens: Path):
    """Sums over rows and tokens with the labels that were drawn: g g^T by output, |dW|^2, and b b^T of look-ups."""
    outer, squares = defaultdict(float), defaultdict(float)
    lookups = torch.zeros(())
    for row, (ids, starts) in enumerate(zip(*rows_of(tokens), strict=True)):
        seen = Watched(net, ids[None], starts[None])
        p = seen.logits[0].softmax(-1).detach()
        labels = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(SEED + row)).flatten()
        total, looked = None, torch.zeros(())
        for at, label in enumerate(labels.tolist()):
            found, b = seen.gradients(-seen.logits[0, at].log_softmax(-1)[label])
            looked = looked + b
            total = found if total is None else {
                n: [x + y for x, y in zip(gs, found[n], strict=True)] for n, gs in total.items()
            }  # fmt: skip
        for name, gs in total.items():
            for g in gs:
                for vector in g[0]:
                    outer[name] = outer[name] + torch.outer(vector, vector)
        for name, gradient in seen.of_weights(total).items():
            squares[name] = squares[name] + float(gradient.square().sum())
        for vector in looked[0]:
            lookups = lookups + torch.outer(vector, vector)
    return outer, squares, lookups


def test_outputs_weigh_what_the_drawn_labels_say_token_by_token(tokens, tmp_path):
    """Scaled so that G and A together have the mean square of the weights' gradients as their trace."""
    net, seen = network(LOOPED, std=0.3), ROWS * CONTEXT
    plain, whole = (measured(net, tokens, tmp_path / f"{full}", full=full) for full in (False, True))
    outer, squares, _ = drawn(net, tokens)
    assert len(outer) == 18
    assert plain.full == {}
    for name, g in outer.items():
        total = squares[name] / seen
        scale = total / (float(g.trace()) / seen * float(plain.hessians[name].trace()))
        wanted = scale * g / seen
        room = {"rtol": 1e-3, "atol": 1e-4 * float(wanted.diagonal().max())}
        torch.testing.assert_close(plain.rows[name].double(), wanted.diagonal(), **room)
        torch.testing.assert_close(whole.full[name].double(), wanted, **room)
        torch.testing.assert_close(whole.rows[name], whole.full[name].diagonal())
        assert float(plain.rows[name].sum() * plain.hessians[name].trace()) == pytest.approx(total, rel=1e-3)


def expected(net: Gpt, rows: tuple[torch.Tensor, torch.Tensor]):
    """Diagonals by output, and |dW|^2, as expectations over every label, rows all at once. A token of each."""
    seen = Watched(net, *rows)
    p = seen.logits.softmax(-1).detach()
    diagonals, squares = defaultdict(float), defaultdict(float)
    for at in range(CONTEXT):
        logs = seen.logits[:, at].log_softmax(-1)
        for label in range(VOCAB):
            found, _ = seen.gradients(logs[:, label].sum())
            weigh = p[:, at, label]
            for name, gs in found.items():
                for g in gs:
                    diagonals[name] = diagonals[name] + torch.einsum("r,rto->o", weigh, g.square())
            for name, gradient in seen.of_weights(found).items():
                squares[name] += float((weigh * gradient.square().sum((1, 2))).sum())
    count = rows[0].numel()
    return {n: d / count for n, d in diagonals.items()}, {n: s / count for n, s in squares.items()}


def test_drawn_labels_come_to_the_expectation_over_all_of_them(tokens):
    """Thirty draws: within five standard errors output by output, and within a few percent in sum."""
    net, rows, draws = network(LOOPED, std=0.3), rows_of(tokens), 30
    diagonals, squares = expected(net, rows)
    hessians = {n: h / rows[0].numel() for n, h in _moments(net, rows, HERE).items()}
    every = [(row, row) for row in range(ROWS)]
    made = [
        _fisher(net, rows, every, ROWS, 1000 * draw, Fisher(), hessians, HERE).rows for draw in range(draws)
    ]
    for name, diagonal in diagonals.items():
        drawn_ones = torch.stack([m[name].double() for m in made])
        traces = drawn_ones.sum(1) * float(hessians[name].trace())
        error = float(traces.std()) / draws**0.5
        assert abs(float(traces.mean()) - squares[name]) < 4 * error, name
        assert error < 0.2 * squares[name], "or the line above would say nothing"
        shares, wanted = drawn_ones / drawn_ones.sum(1, keepdim=True), diagonal / diagonal.sum()
        errors = shares.std(0) / draws**0.5
        assert ((shares.mean(0) - wanted).abs() < 5 * errors + 0.01 * wanted.max()).all(), name


def test_executions_that_share_a_weight_are_not_counted_one_by_one(tokens, tmp_path):
    """Their gradients add up before they are squared: of equal ones, two count fourfold and not twice."""
    net = network(LOOPED, std=0.3)
    s = measured(net, tokens, tmp_path)
    outer, squares, _ = drawn(net, tokens)
    seen, ratios = ROWS * CONTEXT, {}
    for name, g in outer.items():
        naive = float(g.trace()) / seen * float(s.hessians[name].trace())
        ratios[name] = squares[name] / seen / naive
    assert len(ratios) == 18
    shared = [n for n in ratios if n.startswith("blocks.1.")]
    for name in shared:
        product = float(s.rows[name].sum() * s.hessians[name].trace())
        assert product == pytest.approx(squares[name] / seen, rel=1e-3)
    assert max(abs(math.log(ratios[n])) for n in shared) > 0.1, "else the scaling would not be needed"


def test_the_tied_table_has_two_sides_written_out(tokens, tmp_path):
    net = network(small(), std=0.3)
    s, (ids, starts) = measured(net, tokens, tmp_path), rows_of(tokens)
    _, _, lookups = drawn(net, tokens)
    count = ids.numel()
    with torch.no_grad():
        raw = net.raw_logits(net.hidden(ids, starts)).double()
    predicted, frequency = [0.0] * VOCAB, [0.0] * VOCAB
    for row in range(ROWS):
        for at in range(CONTEXT):
            frequency[int(ids[row, at])] += 1 / count
            capped = [net.cap * math.tanh(z / net.cap) for z in raw[row, at].tolist()]
            weights = [math.exp(z) for z in capped]
            for token, z in enumerate(raw[row, at].tolist()):
                p, slope = weights[token] / sum(weights), 1 - math.tanh(z / net.cap) ** 2
                predicted[token] += p * (1 - p) * slope**2 / count
    frequency = [f + RARE * sum(frequency) / VOCAB for f in frequency]
    rho = sum(frequency) / sum(predicted)
    b = lookups / count
    torch.testing.assert_close(
        s.lookups[TABLE].double(), rho * b, rtol=1e-3, atol=1e-4 * float(rho * b.abs().max())
    )
    head, looked = float(s.hessians[TABLE].trace()), float(b.trace())
    sides = torch.tensor([p * head + f * looked for p, f in zip(predicted, frequency, strict=True)])
    torch.testing.assert_close(
        s.rows[TABLE] / s.rows[TABLE].sum(), sides / sides.sum(), rtol=1e-3, atol=1e-5, check_dtype=False
    )
    assert s.rows[TABLE].min() > 0, "a token that the text never had may come up elsewhere"


def test_the_tables_scale_is_that_of_its_own_gradient(tokens, tmp_path):
    net = network(small(), std=0.3)
    s = measured(net, tokens, tmp_path)
    both = float(s.rows[TABLE].sum() * (s.hessians[TABLE] + s.lookups[TABLE]).trace())
    assert both == pytest.approx(float(sum(row_squares(net, tokens)[TABLE])) / (ROWS * CONTEXT), rel=1e-3)


def row_squares(net: Gpt, tokens: Path) -> dict[str, torch.Tensor]:
    """Squares of the parameters' own gradients, summed along their rows and over sequences."""
    out: dict[str, torch.Tensor] = defaultdict(float)
    for row, (ids, starts) in enumerate(zip(*rows_of(tokens), strict=True)):
        net.zero_grad()
        logits = net(ids[None], starts[None])[0]
        p = logits.detach().double().softmax(-1)
        labels = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(SEED + row)).flatten()
        (-logits.log_softmax(-1)[range(CONTEXT), labels]).sum().backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None and parameter.ndim == 2:
                out[name] = out[name] + parameter.grad.double().square().sum(1)
    net.zero_grad()
    return out


@pytest.mark.parametrize("kind", ["shared", "looped", "plain"])
def test_whatever_may_be_quantized_is_weighed(tokens, tmp_path, kind):
    """Tables, gates, adapters and projections too; those without outputs of their own by their gradients alone."""
    net = network(everything(kind), std=0.2)
    s, squares = measured(net, tokens, tmp_path, full=True), row_squares(net, tokens)
    wanted = {n for n, role in net.roles.items() if role.is_matrix or role is Role.GATE}
    assert s.rows.keys() == wanted
    linear = {f"{n}.weight" for n, m in net.named_modules() if isinstance(m, Linear)} & wanted
    assert s.full.keys() == linear
    assert s.lookups.keys() == {TABLE}
    others = wanted - linear - {TABLE}
    assert others
    for name in wanted:
        p = net.get_parameter(name)
        assert s.rows[name].shape == p.shape[:1]
        assert s.rows[name].isfinite().all() and (s.rows[name] >= 0).all()
    for full in s.full.values():
        assert torch.allclose(full, full.T, rtol=1e-4, atol=1e-6 * float(full.abs().max()) + 1e-30)
        assert torch.linalg.eigvalsh(full.double()).min() > -1e-5 * float(full.trace()) - 1e-30
    for name in others:
        inputs = float(s.hessians[name].trace()) if name in s.hessians else net.get_parameter(name).shape[1]
        mean = squares[name] / (ROWS * CONTEXT)
        torch.testing.assert_close(
            s.rows[name].double(),
            (mean + RARE * mean.mean()) / inputs,
            rtol=2e-3,
            atol=1e-6 * float(mean.max()),
        )
    tables = {n for n in others if net.roles[n] is Role.TABLE}
    assert not tables & s.hessians.keys()


def test_a_factored_tables_lookups_are_seen_before_they_are_widened(tokens, tmp_path):
    net = network(everything("shared"), std=0.2)
    s = measured(net, tokens, tmp_path)
    _, _, lookups = drawn(net, tokens)
    rank = net.embedding.weight.shape[1]
    assert s.lookups[TABLE].shape == (rank, rank) == lookups.shape
    ratio = s.lookups[TABLE].double() / (lookups / (ROWS * CONTEXT))
    assert ratio.flatten().tolist() == pytest.approx([float(ratio[0, 0])] * rank**2, rel=2e-3), (
        "rho, one for all"
    )


def test_fewer_tokens_than_hessians_see_are_the_first_rows(tokens, tmp_path):
    net = network(small(), std=0.3)
    Path(tmp_path / "out").mkdir()
    Checkpoint(net.config.plain(), VOCAB, {n: p.detach() for n, p in net.named_parameters()}).write(tmp_path)
    section = Calibrate(tokens=ROWS * CONTEXT, context=CONTEXT, fisher=Fisher(tokens=4 * CONTEXT + 1))
    CALIBRATE.run(tmp_path, tokens, out=tmp_path / "out", runtime=HERE, seed=SEED, calibrate=section)
    few, rows = Statistics.read(tmp_path / "out"), rows_of(tokens)
    hessians = {n: h / rows[0].numel() for n, h in _moments(net, rows, HERE).items()}
    same = _fisher(net, rows, [(i, i) for i in range(4)], 4, SEED, Fisher(), hessians, HERE)
    for name, g in same.rows.items():
        torch.testing.assert_close(few.rows[name], g)


def test_measuring_leaves_the_network_alone(tokens):
    net, rows = network(small(), std=0.3), rows_of(tokens)
    before = {n: p.clone() for n, p in net.named_parameters()}
    hessians = _moments(net, rows, HERE)
    first = _fisher(net, rows, [(0, 0)], 1, SEED, Fisher(), hessians, HERE)
    again = _fisher(net, rows, [(0, 0)], 1, SEED, Fisher(), hessians, HERE)
    for name, p in net.named_parameters():
        assert torch.equal(before[name], p)
        assert p.grad is None or not p.grad.any()
    assert all(torch.equal(first.rows[n], again.rows[n]) for n in first.rows)
    other = _fisher(net, rows, [(0, 0)], 1, SEED + 1, Fisher(), hessians, HERE)
    assert not torch.equal(first.rows[TABLE], other.rows[TABLE])
