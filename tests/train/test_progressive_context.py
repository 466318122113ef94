"""Progressive context: stages by where they end, a re-warmed rate after each change."""

import pytest
from pydantic import ValidationError

from pgolf.train.loop import Train
from pgolf.train.progressive_context import ContextClock, ContextStage, ProgressiveContext

PR2014 = ProgressiveContext(
    stages=tuple(
        ContextStage(context=c, until_fraction=f) for c, f in ((1024, 0.1), (2048, 0.7), (3072, 1.0))
    )
)


def staged(*stages: tuple[int, float], **more: object) -> ProgressiveContext:
    made = tuple(ContextStage(context=c, until_fraction=f) for c, f in stages)
    return ProgressiveContext(stages=made, **more)


@pytest.mark.parametrize(("progress", "context"), [
    (0.0, 1024), (0.1, 1024), (0.1001, 2048), (0.5, 2048), (0.7, 2048), (0.71, 3072), (1.0, 3072), (1.2, 3072),
])  # fmt: skip
def test_a_stage_holds_until_its_fraction(progress, context):
    """Until, not from: a copy that read it as the beginning stayed at 1024 up to 0.7."""
    assert PR2014.at(progress) == context


def test_the_rate_is_warmed_up_again_after_each_change():
    clock = ContextClock(staged((8, 0.2), (16, 0.5), (32, 1.0), rewarmup_steps=4), context=32)
    got = [clock.at(step / 10, step) for step in range(11)]
    assert [context for context, _ in got] == [8] * 3 + [16] * 3 + [32] * 5
    assert [factor for _, factor in got] == [1, 1, 1, 0.25, 0.5, 0.75, 0.25, 0.5, 0.75, 1, 1]


def test_without_a_schedule_the_context_stays():
    clock = ContextClock(None, context=64)
    assert [clock.at(p, s) for s, p in enumerate((0.0, 0.5, 1.0))] == [(64, 1.0)] * 3


@pytest.mark.parametrize(("stages", "why"), [
    (((8, 0.5), (16, 0.4), (32, 1.0)), "in order"),
    (((8, 0.5), (16, 0.5), (32, 1.0)), "in order"),
    (((8, 0.5), (16, 0.9)), "lasts to the end"),
])  # fmt: skip
def test_stages_that_make_no_run_are_refused(stages, why):
    with pytest.raises(ValidationError, match=why):
        staged(*stages)


@pytest.mark.parametrize("stages", [((8, 0.5), (16, 1.0)), ((64, 0.5), (32, 1.0))])
def test_the_last_stage_is_the_runs_context_and_none_exceeds_it(stages):
    with pytest.raises(ValidationError, match="ends at train"):
        Train(batch_tokens=64, context=32, progressive_context=staged(*stages))


def test_the_search_reads_first_and_second_stage_by_name():
    assert PR2014.first.context == 1024
    assert PR2014.second.until_fraction == 0.7
    assert staged((8, 0.5), (16, 1.0)).second is None
