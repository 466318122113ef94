"""What the tied table is solved for, and a damping for each role."""

from dataclasses import replace

import pytest
import torch

from pgolf.quantize.gptq import Gptq, RoleDamping
from pgolf.quantize.rtn import Rtn
from pgolf.quantize.statistics import FISHER, HESSIANS
from tests.quantize.problems import problem, same


def test_the_head_alone_is_what_the_records_solve_the_table_for():
    p = problem()
    blind = replace(p, statistics=replace(p.statistics, lookups={}))
    assert same(Gptq().quantize_all(p), Gptq().quantize_all(blind))


def test_both_sides_are_one_hessian():
    p = problem()
    h = {n: x + p.statistics.lookups.get(n, 0) for n, x in p.statistics.hessians.items()}
    added = replace(p, statistics=replace(p.statistics, hessians=h, lookups={}))
    got = Gptq(tied="both").quantize_all(p)
    assert same(got, Gptq().quantize_all(added))
    assert not same(got, Gptq().quantize_all(p))


def test_rounded_is_rounded_and_touches_no_other_matrix():
    p = problem()
    got, solved, rounded = Gptq(tied="rounded").quantize_all(p), Gptq().quantize_all(p), Rtn().quantize_all(p)
    assert same({"table": got["table"]}, {"table": rounded["table"]})
    assert same(
        {n: m for n, m in got.items() if n != "table"}, {n: m for n, m in solved.items() if n != "table"}
    )


def test_only_both_sides_need_the_fisher():
    assert [FISHER in Gptq(tied=t).needs for t in ("head", "both", "rounded")] == [False, True, False]
    assert all(HESSIANS in Gptq(tied=t).needs for t in ("head", "both", "rounded"))


@pytest.mark.parametrize(
    ("role", "of"), [("table", "embedding"), ("q", "attention"), ("up", "mlp"), ("down", "mlp")]
)
def test_each_role_has_its_own_damping(role, of):
    p = problem()
    dampings = RoleDamping(embedding=3e-3, attention=0.3, mlp=10.0)
    got = Gptq(dampings=dampings).quantize_all(p)
    alone = Gptq(damping=getattr(dampings, of)).quantize_all(p)
    other = Gptq(damping=77.0).quantize_all(p)
    assert torch.equal(got[role].q, alone[role].q)
    assert not torch.equal(got[role].q, other[role].q)


def test_off_leaves_no_trace():
    assert not {"dampings", "protect"} & set(Gptq().plain())
