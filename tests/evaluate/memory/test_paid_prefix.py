"""What is paid for is free, all that is not stays, and the mode says that it is outside the rules."""

import numpy as np
import pytest
from pydantic import ValidationError

from pgolf.evaluate.memory.paid_prefix import PaidPrefix
from tests.evaluate.memory.laws import CHEAP, DOCUMENTS, WINDOWS, drive, text

IDS = text(2)
SECTION = PaidPrefix(research=True, tokens=tuple(IDS[:40].tolist()))


@pytest.mark.parametrize("mode", [DOCUMENTS, WINDOWS])
def test_the_prefix_scores_nothing_and_the_rest_as_before(mode):
    mode = mode.but(memory=SECTION)
    seen, plain = drive(SECTION.build(CHEAP), IDS, mode), drive(CHEAP, IDS, mode)
    assert (seen.nll[:39] == 0).all()
    assert (seen.answers[40:] == plain.answers[40:]).all()
    assert np.abs(np.exp(seen.answers[1:]).sum(1) - 1).max() < 1e-12
    assert seen.audit().updates == 0
    assert mode.outside_rules == [PaidPrefix.OUTSIDE_RULES]


def test_it_has_to_be_declared():
    with pytest.raises(ValidationError, match="research"):
        PaidPrefix(tokens=(1, 2))
