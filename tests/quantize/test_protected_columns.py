"""Protected columns: the groups with the largest score, four times as fine, under the same clip."""

import pytest
import torch
from optuna.trial import FixedTrial
from pydantic import ValidationError

from pgolf.formats.quantized import steps_of
from pgolf.model.roles import Role
from pgolf.quantize.gptq import Gptq
from pgolf.quantize.grids import RoleGrids
from pgolf.quantize.protected_columns import ProtectedColumns
from pgolf.quantize.sd_clip import SdClip
from search_spaces.quantize.protected_columns import protected_columns
from tests.quantize.problems import problem

SIX = SdClip(bits=6, clip_sigmas=8.0)
BASE = Gptq(grids=RoleGrids(embedding=SIX, attention=SIX, mlp=SIX))
PROTECT = ProtectedColumns(group=4)


def chosen(section: ProtectedColumns, p) -> dict[str, list[int]]:
    """Protected columns by matrix."""
    found = section.columns(p.weights, p.statistics.hessians)
    return {n: mask.nonzero().flatten().tolist() for n, mask in found.items()}


def twin(p, group: int) -> dict[tuple[str, int], float]:
    """The score of every group, entry by entry."""
    out = {}
    for n, w in p.weights.items():
        h = p.statistics.hessians[n]
        for first in range(0, w.shape[1], group):
            out[n, first // group] = sum(
                float(h[j, j]) ** 0.5 * sum(abs(x) for x in w[:, j].tolist()) / len(w)
                for j in range(first, min(first + group, w.shape[1]))
            )
    return out


def test_a_worked_example():
    """Mean magnitudes 1, 2, 3, 4 and deviations of inputs 3, 1, 2, 1: groups of two score 5 and 10."""
    w = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 2.0, -3.0, -4.0]])
    h = torch.diag(torch.tensor([9.0, 1.0, 4.0, 1.0]))
    found = ProtectedColumns(group=2).columns({"m": w}, {"m": h})
    assert found["m"].tolist() == [False, False, True, True]
    more = torch.diag(torch.tensor([100.0, 1.0, 4.0, 1.0]))
    assert ProtectedColumns(group=2).columns({"m": w}, {"m": more})["m"].tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("group", [4, 5])
@pytest.mark.parametrize("top_k", [1, 2, 99])
def test_groups_are_taken_by_score_within_a_matrix_or_over_all(group, top_k):
    p = problem(3)
    scores = twin(p, group)
    each = {
        n: sorted((g for m, g in scores if m == n), key=lambda g: -scores[n, g])[:top_k] for n in p.weights
    }
    everywhere = sorted(scores, key=lambda at: -scores[at])[:top_k]
    for scope, taken in (
        ("per_matrix", each),
        ("global", {n: [g for m, g in everywhere if m == n] for n in each}),
    ):
        got = chosen(ProtectedColumns(group=group, top_k=top_k, scope=scope), p)
        assert got == {
            n: [j for j in range(w.shape[1]) if j // group in taken[n]] for n, w in p.weights.items()
        }, scope


def test_the_finer_step_is_a_column_code_and_the_clip_stays():
    """31 / 127 is 2^(-16.3 / 8): sixteen eighths, a quarter of the step, and 124 of them where 31 were."""
    p = problem()
    got, plain = BASE.but(protect=PROTECT).quantize_all(p), BASE.quantize_all(p)
    for n, mask in PROTECT.columns(p.weights, p.statistics.hessians).items():
        assert got[n].col.tolist() == [-16 if m else 0 for m in mask.tolist()]
        assert torch.equal(got[n].row, plain[n].row)
        limit = torch.where(mask, 124, 31)
        assert (got[n].q.abs() <= limit).all()


def test_a_weight_beyond_the_clip_gets_the_widened_range_and_no_more():
    w = torch.zeros(2, 4)
    w[:, 0] = torch.tensor([1.0, -1.0])
    grid = SdClip(bits=6, clip_sigmas=0.5)
    made = Gptq(protect=ProtectedColumns(group=2))
    protected = torch.tensor([[True, True, False, False]])
    got = made.quantize_batch(w.unsqueeze(0), grid, torch.eye(4).unsqueeze(0), protected=protected)[0]
    assert got.q[:, 0].tolist() == [124, -124]
    flipped = made.quantize_batch(w.unsqueeze(0), grid, torch.eye(4).unsqueeze(0), protected=~protected)[0]
    assert flipped.q[:, 0].tolist() == [31, -31]
    assert got.dequantize()[0, 0] == flipped.dequantize()[0, 0] == 31 * steps_of(got.row)[0]


def test_the_solve_is_the_sweep_with_those_steps():
    """Against the definition: one column and one explicit inverse at a time, each column on its own step."""
    p = problem()
    w, h = p.weights["up"], p.statistics.hessians["up"]
    made = BASE.but(protect=PROTECT)
    mask = PROTECT.columns({"up": w}, {"up": h})["up"]
    got = made.quantize_batch(w.unsqueeze(0), SIX, h.unsqueeze(0), protected=mask.unsqueeze(0))[0]
    h = h.double() + 0.01 * h.diagonal().double().mean() * torch.eye(12)
    left, rest = sorted(range(12), key=lambda j: -h[j, j].item()), w.double().clone()
    while left:
        inverse, j = torch.linalg.inv(h[left][:, left]), left[0]
        step = steps_of(got.row - 16 * int(mask[j])).double()
        most = 124 if mask[j] else 31
        assert got.q[:, j].tolist() == (rest[:, j] / step).round().clamp(-most, most).tolist()
        error = (rest[:, j] - got.q[:, j] * step) / inverse[0, 0]
        for k, other in enumerate(left):
            rest[:, other] -= error * inverse[0, k]
        left = left[1:]


def test_a_grid_that_is_as_fine_already_is_left_alone():
    eight = SdClip(bits=8, clip_sigmas=8.0)
    p, made = problem(), Gptq(grids=RoleGrids(embedding=eight, attention=SIX, mlp=SIX), protect=PROTECT)
    got = made.quantize_all(p)
    assert got["table"].col is None
    assert got["q"].col is not None
    assert torch.equal(got["table"].q, made.but(protect=None).quantize_all(p)["table"].q)


def test_globally_one_matrix_has_the_one_group():
    p = problem()
    got = BASE.but(protect=PROTECT.but(scope="global")).quantize_all(p)
    assert sum(m.col is not None for m in got.values()) == 1


def test_what_is_only_rounded_is_not_protected():
    shapes = {
        "table": (40, 12, Role.EMBEDDING),
        "hashed": (30, 12, Role.TABLE),
        "q": (12, 12, Role.ATTENTION),
    }
    got = BASE.but(protect=PROTECT, tied="rounded").quantize_all(problem(shapes=shapes))
    assert [n for n, m in got.items() if m.col is not None] == ["q"]


def test_off_is_none_and_changes_nothing():
    assert "protect" not in Gptq().plain()
    with pytest.raises(ValidationError):
        ProtectedColumns(scope="all")


def test_the_space_may_leave_it_off():
    assert protected_columns(FixedTrial({"p.on": False}), "p") is None
    asked = {"p.on": True, "p.group": 64, "p.top_k": 1, "p.scope": "global"}
    assert protected_columns(FixedTrial(asked), "p") == ProtectedColumns(scope="global")
