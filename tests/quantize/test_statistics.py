"""What quantizers are guided by: kept exactly, and added up to the loss that a rounding error costs."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pgolf.errors import StoreError
from pgolf.quantize.statistics import FILE, Statistics, predicted_loss

SEEDS = st.integers(0, 2**31 - 1)


def known(seed: int = 0) -> Statistics:
    gen = torch.Generator().manual_seed(seed)

    def gram(n: int) -> torch.Tensor:
        x = torch.randn(3 * n, n, generator=gen)
        return x.T @ x / len(x)

    return Statistics(
        hessians={"embedding.weight": gram(3), "blocks.0.mlp.up.weight": gram(3), "b/with/slashes": gram(2)},
        lookups={"embedding.weight": gram(3)},
        rows={"embedding.weight": torch.rand(5, generator=gen), "gate": torch.rand(4, generator=gen),
              "blocks.0.mlp.up.weight": torch.rand(4, generator=gen)},
        full={"blocks.0.mlp.up.weight": gram(4)},
    )  # fmt: skip


def test_statistics_come_back_bit_for_bit(tmp_path):
    for i, stats in enumerate((known(), Statistics(), Statistics(rows={"w": torch.zeros(0)}))):
        (tmp_path / f"{i}").mkdir()
        stats.write(tmp_path / f"{i}")
        again = Statistics.read(tmp_path / f"{i}")
        for part in fields(Statistics):
            one, two = getattr(stats, part.name), getattr(again, part.name)
            assert one.keys() == two.keys(), part.name
            assert all(torch.equal(one[n], two[n]) and one[n].dtype == two[n].dtype for n in one)


def test_equal_statistics_make_equal_files(tmp_path):
    """Whatever order they were measured in: a digest follows from the content."""
    turned = {part.name: dict(reversed(getattr(known(), part.name).items())) for part in fields(Statistics)}
    for name, stats in (("one", known()), ("two", Statistics(**turned))):
        (tmp_path / name).mkdir()
        stats.write(tmp_path / name)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_damaged_statistics_are_a_store_error(tmp_path, damage):
    known().write(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    if damage == "missing":
        (tmp_path / FILE).unlink()
    else:
        spoilt = {"empty": b"", "cut": whole[: len(whole) // 2], "foreign": b"\x89PNG" + whole[4:]}
        (tmp_path / FILE).write_bytes(spoilt[damage])
    with pytest.raises(StoreError):
        Statistics.read(tmp_path)


def literal(e, g, h) -> float:
    """1/2 sum over r, s, c, d of G_rs E_sc A_cd E_rd, written out."""
    rows, cols = e.shape
    return 0.5 * sum(
        float(g[r, s]) * float(e[s, c]) * float(h[c, d]) * float(e[r, d])
        for r in range(rows) for s in range(rows) for c in range(cols) for d in range(cols)
    )  # fmt: skip


@given(seed=SEEDS)
def test_the_loss_of_an_error_is_the_trace_written_out(seed):
    s = known(seed)
    gen = torch.Generator().manual_seed(seed + 1)

    def error(rows: int) -> torch.Tensor:
        return torch.randn(rows, 3, generator=gen)

    e = error(5)
    both = s.hessians["embedding.weight"].double() + s.lookups["embedding.weight"].double()
    wanted = literal(e, torch.diag(s.rows["embedding.weight"]), both)
    assert predicted_loss("embedding.weight", e, s) == pytest.approx(wanted, rel=1e-9)
    e, name = error(4), "blocks.0.mlp.up.weight"
    wanted = literal(e, s.full[name], s.hessians[name])
    assert predicted_loss(name, e, s) == pytest.approx(wanted, rel=1e-9)
    wanted = literal(e, torch.diag(s.rows[name]), s.hessians[name])
    assert predicted_loss(name, e, replace(s, full={})) == pytest.approx(wanted, rel=1e-9)
    wanted = literal(e, torch.diag(s.rows["gate"]), torch.eye(3))
    assert predicted_loss("gate", e, s) == pytest.approx(wanted, rel=1e-9)


def test_what_was_not_measured_has_no_predicted_loss_and_no_error_costs_nothing():
    s = known()
    assert predicted_loss("b/with/slashes", torch.ones(3, 2), s) is None
    assert predicted_loss("nowhere", torch.ones(3, 2), s) is None
    assert predicted_loss("gate", torch.zeros(4, 3), s) == 0.0


def test_both_sides_of_the_tied_table_are_one_hessian():
    s = known()
    both = s.hessians["embedding.weight"].double() + s.lookups["embedding.weight"].double()
    assert torch.equal(s.inputs("embedding.weight"), both)
    assert torch.equal(s.inputs("b/with/slashes"), s.hessians["b/with/slashes"].double())
    assert s.inputs("gate") is None
