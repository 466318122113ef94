"""Gradients in parts, and in compiled graphs that are all made before the run."""

from dataclasses import replace

import pytest
import torch

from pgolf.data.loader import Windows
from pgolf.train.focal import Focal
from pgolf.train.gradients import Gradients
from pgolf.train.mtp import Mtp
from pgolf.train.objective import Objective, loss_nats
from pgolf.train.z_loss import ZLoss
from tests.nets import network
from tests.train.elsewhere import compiled_run, losses_across_switches


@pytest.mark.parametrize("rows_at_once", [1, 3, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(tokens, rows_at_once):
    batch = next(iter(Windows(tokens, 16, 8, seed=0)))
    whole, parts = network(), network()
    loss = loss_nats(whole, batch)
    loss.backward()
    got = Gradients(parts, None, Objective(), None, "cpu", rows_at_once).add(batch, 16)
    assert float(got) == pytest.approx(float(loss.detach()), rel=1e-6)
    for (name, a), b in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        assert torch.allclose(
            a.grad if a.grad is not None else torch.zeros(1), b[1].grad, rtol=1e-4, atol=1e-6
        ), name


def test_segments_are_cut_at_the_context(tokens):
    batch = next(iter(Windows(tokens, 16, 4, seed=0)))
    cut, marked = network(), network()
    a = Gradients(cut, None, Objective(), None, "cpu", 4).add(batch, 5)
    b = Gradients(marked, None, Objective(), None, "cpu", 4).add(batch.capped(5), 16)
    uncut = Gradients(network(), None, Objective(), None, "cpu", 4).add(batch, 16)
    assert float(a) == float(b) != float(uncut)


def test_weights_come_from_the_batch_as_it_was_cut(tokens):
    seen = []

    def weigh(batch):
        seen.append(batch)
        return torch.ones(batch.tokens.shape)

    batch = next(iter(Windows(tokens, 16, 4, seed=0)))
    for part, _ in Gradients(network(), None, Objective(), weigh, "cpu", 3).parts(batch, 5):
        assert part.weights is not None
    assert [len(b.tokens) for b in seen] == [3, 1]
    assert all(torch.equal(b.starts, b.capped(5).starts) for b in seen)
    assert replace(batch, weights=None) == batch


@pytest.mark.heavy
@pytest.mark.parametrize(
    "objective", [Objective(), Objective(z_loss=ZLoss(), focal=Focal(), mtp=Mtp(heads=2))]
)
def test_nothing_is_compiled_after_warm_up(tokens, unchecked, objective):
    """Recurrence and rounding switch back and forth in the run; a further graph would be an error."""
    found, before, after, error = unchecked(losses_across_switches, tokens, True, objective)
    assert error == ""
    assert before == after == 8, "four states, and two sizes of a part"
    assert len(found) == 11
    for compiled, eager in found:
        assert compiled == pytest.approx(eager, rel=1e-5)


@pytest.mark.heavy
def test_without_warm_up_a_switch_is_a_recompilation(tokens, unchecked):
    """The control of the test above: it can fail."""
    found, before, _, error = unchecked(losses_across_switches, tokens, False, Objective())
    assert before == 0
    assert error == "RecompileError"
    assert len(found) < 11


@pytest.mark.heavy
def test_a_compiled_run_comes_to_the_loss_of_one_that_is_not(tokens, tmp_path, unchecked):
    ends = []
    for compiled in (False, True):
        (tmp_path / str(compiled)).mkdir()
        ends.append(unchecked(compiled_run, tokens, tmp_path / str(compiled), compiled))
    (eager, none), (compiled, graphs) = ends
    assert eager["final_train_loss"] == pytest.approx(compiled["final_train_loss"], rel=1e-4)
    assert eager["steps"] == compiled["steps"] == 4, "warm-up steps are not counted"
    assert not any(none)
    assert set(graphs) == {2}, "both graphs were there at the first report, none came after it"
