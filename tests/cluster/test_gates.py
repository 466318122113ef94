import math

import pytest

from cluster.gates import GATE_BPB, UNCOMPRESSED_BPB, GatedReport, GateLimit
from pgolf.errors import Infeasible, InfeasibleTrial


def listening(gate):
    heard = []
    return GatedReport(gate, lambda step, metrics: heard.append((step, metrics))), heard


def at(progress, **more):
    return {"train_loss": 3.0, "progress": progress, **more}


def test_the_first_evaluation_beyond_the_gate_decides_and_is_marked():
    report, heard = listening(GateLimit(0.5, 2.0))
    report(1, at(0.4, val_bpb=9.0))  # too early to be judged
    report(2, at(0.6))  # beyond the gate, but not an evaluation
    report(3, at(0.7, val_bpb=1.9))
    report(4, at(0.9, val_bpb=9.0))  # judged already
    assert [step for step, metrics in heard if GATE_BPB in metrics] == [3]
    assert heard[2][1][GATE_BPB] == 1.9


def test_over_the_limit_the_trial_ends_with_what_it_measured_and_the_report_is_not_lost():
    report, heard = listening(GateLimit(0.5, 2.0))
    with pytest.raises(InfeasibleTrial) as stopped:
        report(7, at(0.5, val_bpb=2.5))
    outcome = stopped.value.outcome
    assert (outcome.reason, outcome.measured, outcome.limit) == ("gate", 2.5, 2.0)
    assert outcome.violation == pytest.approx(0.25)
    assert heard[-1][1][GATE_BPB] == 2.5


def test_exactly_at_the_limit_is_let_through():
    report, _ = listening(GateLimit(0.5, 2.0))
    report(1, at(0.5, val_bpb=2.0))


@pytest.mark.parametrize("bpb", [math.nan, math.inf])
@pytest.mark.parametrize(("limit", "missed"), [(2.0, 2.0), (None, UNCOMPRESSED_BPB)])
def test_what_is_not_a_number_at_the_gate_has_diverged_and_is_not_offered_as_a_measurement(
    bpb, limit, missed
):
    report, heard = listening(GateLimit(0.5, limit))
    with pytest.raises(InfeasibleTrial) as stopped:
        report(1, at(0.5, val_bpb=bpb))
    assert stopped.value.outcome == Infeasible(reason="diverged", measured=None, limit=missed)
    assert GATE_BPB not in heard[0][1]


def test_without_an_earlier_trial_nothing_is_killed_but_the_gate_is_measured():
    report, heard = listening(GateLimit(0.5, None))
    report(1, at(0.5, val_bpb=9.0))
    assert heard[0][1][GATE_BPB] == 9.0


def test_a_round_without_a_gate_passes_everything_on_as_it_is():
    report, heard = listening(None)
    report(1, at(0.9, val_bpb=9.0))
    assert heard == [(1, at(0.9, val_bpb=9.0))]
