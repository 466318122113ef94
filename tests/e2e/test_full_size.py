"""The newest merged record at its full size on a CPU: it begins knowing nothing, and a step changes it."""

import math

import pytest
import torch
from torch.nn import functional as F

from pgolf.data.loader import document_starts
from pgolf.optim.optimizer import Optimizer
from pgolf.recipes import recipe
from pgolf.runtime import Runtime, forget_peak_memory, peak_memory_bytes

VOCAB, TIME = 8192, 256


@pytest.mark.heavy
@pytest.mark.xdist_group("full_size")
def test_a_fresh_pr1855_knows_nothing_and_one_step_moves_every_weight(record_property):
    forget_peak_memory("cpu")
    config = recipe("pr1855")
    network = config.model.build(VOCAB).reset(seed=0)
    assert network.params == 35_945_671
    assert len(network.order) == 17
    tokens = torch.randint(8, VOCAB, (2, TIME + 1), generator=torch.Generator().manual_seed(0))
    tokens[:, [0, 100]] = 1
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:]
    loss = F.cross_entropy(network(inputs, document_starts(inputs)).flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(math.log(VOCAB), abs=0.02)
    optimizer = Optimizer(config.optim, network, Runtime())
    for step in range(2):  # output projections begin at zero: only from the second step has all a gradient
        if step:
            network.zero_grad()
            logits = network(inputs, document_starts(inputs))
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        optimizer.step(0.5 + 0.1 * step, 0.1)
    unmoved = [name for name, p in network.named_parameters() if torch.equal(p, before[name])]
    assert not unmoved
    peak = peak_memory_bytes("cpu")
    record_property("peak_memory_bytes", peak)
    print(f"full-size forward, backward and step on {2 * TIME} tokens: peak {peak / 1e9:.2f} GB")
    assert peak < 8e9
