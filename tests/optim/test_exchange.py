"""What is sent in a step, in which order, and what is waited for when: seen from one rank."""

import pytest
import torch

from pgolf.model.roles import Role
from pgolf.optim.bank import Bank, banks_of
from pgolf.optim.optimizer import Optim, Optimizer
from pgolf.optim.ranks import Pending, Ranks
from pgolf.optim.replicated import SMALL, Replicated
from pgolf.runtime import Runtime
from tests.optim.toy import Heads, Toy


class Told(Pending):
    """Tells when it is first waited for."""

    def __init__(self, tensor, log, name):
        super().__init__(tensor)
        self.log, self.name, self.waited = log, name, False

    def wait(self):
        if not self.waited:
            self.log.append(f"got {self.name}")
            self.waited = True
        return super().wait()


class Logged(Ranks):
    """One rank that writes down what it would send."""

    def __init__(self):
        super().__init__(Runtime())
        self.log = []

    def _told(self, verb, x):
        name = f"{verb} {tuple(x.shape)}"
        self.log.append(name)
        return Told(x, self.log, name)

    def mean(self, x):
        return self._told("mean", x)

    def mean_slice(self, x):
        return self._told("slice", x)

    def gather(self, own):
        return self._told("gather", own)

    def total(self, x):
        self.log.append("total")
        return x


def exchanged(section):
    toy, heads = Toy(), Heads()
    optimizer = Optimizer(section, toy, Runtime(), heads)
    optimizer.ranks = ranks = Logged()
    optimizer.adam.mean.ranks = ranks
    for bank in optimizer.muon.banks:
        bank.ranks = ranks
    optimizer.step(0.0, 0.1, ride=torch.zeros(2, dtype=torch.float64))
    return ranks.log


BANKS = [(4, 6, 4), (1, 12, 4), (2, 4, 6), (1, 5, 5)]


def small_numbers():
    """Of everything that is not in a bank nor the large table, and the two that ride along."""
    toy, sizes = Toy(), 0
    for name, p in toy.named_parameters():
        if toy.roles[name] in (Role.TABLE, Role.CONTROL, Role.GATE):
            sizes += p.numel()
    return sizes + Heads().weight.numel() + 2


def test_banks_fly_while_adam_works_and_land_while_the_next_computes():
    sends = [f"slice {s}" for s in BANKS] + ["mean (8200, 4)", f"mean ({small_numbers()},)"]
    log = exchanged(Optim())
    assert log[: len(sends)] == sends, "largest bank first, one table by itself, one buffer for all the rest"
    after = log[len(sends) :]
    assert after[:2] == ["got mean (8200, 4)", f"got mean ({small_numbers()},)"]
    a, b, c, d = BANKS
    assert after[2:] == [
        f"got slice {a}", f"gather {a}", f"got slice {b}", f"gather {b}", f"got gather {a}",
        f"got slice {c}", f"gather {c}", f"got gather {b}", f"got slice {d}", f"gather {d}",
        f"got gather {c}", f"got gather {d}",
    ]  # fmt: skip


def test_clipping_by_the_norm_of_the_mean_waits_for_everything_and_sends_one_number_more():
    log = exchanged(Optim(grad_clip=1.0))
    assert log.count("total") == 1
    before = log[: log.index("total")]
    assert all(f"got slice {s}" in before for s in BANKS)
    assert "total" not in exchanged(Optim(grad_clip=1.0, grad_clip_scope="local"))


class Third(Ranks):
    """The last of three ranks: its slice, and nobody to talk to."""

    def __init__(self):
        super().__init__(Runtime(rank=2, world_size=3))

    def mean_slice(self, x):
        share = len(x) // self.size
        return Pending(x[self.rank * share :])


def test_a_bank_is_padded_to_a_multiple_of_the_ranks():
    params = [torch.zeros(4, 6, requires_grad=True) for _ in range(2)] + [torch.zeros(2, 4, 6)]
    for i, p in enumerate(params[:2]):
        p.grad = torch.full_like(p, i + 1.0)
    params[2].grad = torch.stack([torch.full((4, 6), 3.0), torch.full((4, 6), 4.0)])
    bank = Bank(params, Third(), torch.float32)
    bank.send()
    assert bank.grads[:, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 0.0, 0.0]
    assert bank.own_grads().shape == bank.momentum.shape == (2, 4, 6)
    assert not bank.own_grads().any(), "the third rank has the padding"
    params[0].grad = None
    bank.send()
    assert bank.grads[:, 0, 0].tolist() == [0.0, 2.0, 3.0, 4.0, 0.0, 0.0], "the last step's is not kept"


def test_a_bank_applies_to_each_matrix_its_own_update():
    params = [torch.ones(2, 3, requires_grad=True), torch.ones(2, 2, 3, requires_grad=True)]
    bank = Bank(params, Third(), torch.float32)
    update = torch.arange(3.0).view(3, 1, 1).expand(3, 2, 3)
    with torch.no_grad():
        bank.apply(update, scale=0.5, keep=0.9)
    assert torch.allclose(params[0], torch.full((2, 3), 0.9))
    assert torch.allclose(params[1][:, 0, 0], torch.tensor([0.4, -0.1]))


def test_what_is_no_matrix_is_no_part_of_a_bank():
    with pytest.raises(AssertionError, match="a matrix, or a stack of them"):
        banks_of([torch.zeros(3)], Ranks(Runtime()), None)


def test_small_gradients_of_two_dtypes_go_in_two_buffers_and_the_ride_in_its_own_dtype():
    params = [torch.zeros(2), torch.zeros(3, dtype=torch.bfloat16), torch.zeros(SMALL + 1), torch.zeros(())]
    for i, p in enumerate(params):
        p.grad = torch.full_like(p, i + 1.0)
    ranks = Logged()
    mean = Replicated(params, ranks)
    mean.send(torch.tensor([[7.0, 8.0]]))
    assert set(ranks.log) == {f"mean ({SMALL + 1},)", "mean (3,)", "mean (5,)"}
    received = mean.received()
    assert [float(g.flatten()[0]) for g in received] == [1.0, 2.0, 3.0, 4.0]
    assert [g.shape for g in received] == [p.shape for p in params]
    assert mean.ride().tolist() == [[7.0, 8.0]]
    mean.send()
    assert mean.ride() is None


def test_what_rides_along_needs_no_parameter_of_its_dtype():
    mean = Replicated([torch.zeros(2)], Ranks(Runtime()))
    mean.send(torch.tensor([1.5], dtype=torch.float64))
    assert mean.ride().tolist() == [1.5]
    assert mean.received()[0].tolist() == [0.0, 0.0]


def test_the_largest_bank_is_the_first_whatever_the_order_of_the_parameters():
    banks = banks_of(
        [torch.zeros(2, 2), torch.zeros(9, 9), torch.zeros(2, 2)], Ranks(Runtime()), torch.bfloat16
    )
    assert [(b.rows, len(b.matrices)) for b in banks] == [(9, 1), (2, 2)]
    assert {b.momentum.dtype for b in banks} == {torch.bfloat16}
