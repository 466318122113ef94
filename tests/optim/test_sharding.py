"""Any number of ranks make the step that one rank makes of the mean gradient.

Twenty steps in float64, where the order of additions leaves 1e-12, so that a gradient counted twice, a wrong
slice or a norm over the wrong numbers cannot hide; and in float32 to 1e-5.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from pgolf.optim.clip import clip_
from pgolf.optim.optimizer import Optimizer
from pgolf.runtime import Runtime
from tests.optim.gang import RECORD, SECTIONS
from tests.optim.toy import Heads, Toy, gradient, named, rows_of, train

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.heavy, pytest.mark.xdist_group("optim-gang")]


@pytest.fixture(scope="module", params=[2, 3])
def gang(request, tmp_path_factory):
    """What each rank of a gang of two or three wrote: gang(section) is a list of a dict a rank."""
    ranks, out = request.param, tmp_path_factory.mktemp(f"gang{request.param}")
    env = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    done = subprocess.run(
        [*command, "-m", "tests.optim.gang", str(out)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return lambda section: [torch.load(out / f"{section}.{rank}.pt") for rank in range(ranks)]


@cache
def alone(section: str, dtype: torch.dtype = torch.float64):
    weights, rides, _ = train(SECTIONS[section], Runtime(), dtype=dtype)
    return weights, rides


def far(got, expected):
    """The worst relative distance between parameters, and whose it is."""
    return max((float((got[n] - w).norm() / w.norm()), n) for n, w in expected.items())


@pytest.mark.parametrize("section", ["plain", "record", "switches"])
def test_ranks_come_to_the_weights_of_one(gang, section):
    weights, rides = alone(section)
    for rank in gang(section):
        assert far(rank["weights"], weights)[0] < 1e-9, far(rank["weights"], weights)
        assert torch.allclose(rank["rides"][:, 0], rides[:, 0]), "the mean of what rode along"


def test_in_float32_to_1e_5(gang):
    weights, _, _ = train(RECORD, Runtime(), dtype=torch.float32)
    for rank in gang("float32"):
        assert far(rank["weights"], weights)[0] < 1e-5, far(rank["weights"], weights)


def test_in_bfloat16_to_what_bfloat16_can(gang):
    """Gradients are sent and summed with 8 bits; the weights stay what they are."""
    weights, _, _ = train(RECORD, Runtime())
    for rank in gang("bfloat16"):
        assert 1e-6 < far(rank["weights"], weights)[0] < 0.05


@pytest.mark.parametrize("section", [*SECTIONS, "float32", "bfloat16"])
def test_ranks_agree_to_the_last_bit(gang, section):
    first, *others = gang(section)
    for other in others:
        assert all(torch.equal(w, other["weights"][n]) for n, w in first["weights"].items())


def test_padding_stays_zero(gang):
    found = [part for section in SECTIONS for rank in gang(section) for part in rank["padding"] if len(part)]
    assert found, "some bank is not a multiple of the ranks"
    assert not any(part.any() for part in found)


def test_a_flag_that_one_rank_raises_is_seen_by_all(gang):
    ranks = gang("plain")
    for rank in ranks:
        assert torch.allclose(rank["rides"][:, 1], torch.tensor(1 / len(ranks), dtype=torch.float64))


def test_local_clipping_scales_each_rank_by_its_own_norm(gang):
    """One rank, no clipping, fed with the mean of what each rank's clipped gradient must have been."""
    ranks = gang("local")
    section = SECTIONS["local"]
    toy, heads = Toy(), Heads()
    optimizer = Optimizer(section.but(grad_clip=None, grad_clip_scope=None), toy, Runtime(), heads)
    for step in range(20):
        totals = {name: torch.zeros_like(p) for name, p in named(toy, heads)}
        for rank in range(len(ranks)):
            own = {
                name: g
                for name, p in named(toy, heads)
                if (g := gradient(name, p, step, rows_of(rank, len(ranks)))) is not None
            }
            trunk = [g for name, g in own.items() if name != "head"]
            clip_(trunk, torch.cat([g.flatten() for g in trunk]).norm(), section.grad_clip)
            for name, g in own.items():
                totals[name] += g / len(ranks)
        for name, p in named(toy, heads):
            p.grad = totals[name]
        optimizer.step(step / 20, 1 / 20, lr_factor=min((step + 1) / 3, 1.0))
    optimizer.finish()
    expected = {name: p.detach() for name, p in named(toy, heads)}
    for rank in ranks:
        assert far(rank["weights"], expected)[0] < 1e-9
    assert far(ranks[0]["weights"], alone("local")[0])[0] > 1e-4, "it depends on the number of ranks"
