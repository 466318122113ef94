"""The checks: L1 to L21 in order, then what no rule of that list covers.

predictions   L1-L4       what predictions depend on, and that they are distributions
ledger        L5-L7       what was scored when, and what had been learned by then
bytes         L8, L9      the denominator, and that all of the split is scored
data          L10-L13     training and validation text, and who read them
artifact      L14, L19, L20   what was shipped and counted, and that it is all there is
clocks        L15-L17     time, network, warm-up
statistics    L18, L21    seeds and runs
signs         X1-X4       answers in the artifact, a piece for the space, changes and switches without effect
"""

from collections.abc import Callable

from pgolf.certify.checks.artifact import code_is_counted, fits_the_cap, reload_is_deterministic
from pgolf.certify.checks.bytes import bytes_are_the_text, covers_the_split
from pgolf.certify.checks.clocks import no_network, warmed_up_without_text, within_the_clocks
from pgolf.certify.checks.data import (
    no_training_data_at_evaluation,
    no_validation_data_before,
    shards_are_the_export,
    splits_are_disjoint,
)
from pgolf.certify.checks.ledger import order_is_declared, scored_before_told, scored_once
from pgolf.certify.checks.predictions import (
    adaptation_sees_the_past_alone,
    answers_are_distributions,
    predictions_see_the_past_alone,
    prefixes_suffice,
)
from pgolf.certify.checks.signs import (
    changes_change_something,
    no_paid_prefix,
    space_is_a_piece,
    switches_do_something,
)
from pgolf.certify.checks.statistics import all_runs_are_disclosed, seeds_share_one_config
from pgolf.certify.dossier import Dossier
from pgolf.certify.verdict import Verdict

CHECKS: tuple[Callable[[Dossier], Verdict], ...] = (
    predictions_see_the_past_alone,
    adaptation_sees_the_past_alone,
    answers_are_distributions,
    prefixes_suffice,
    scored_before_told,
    scored_once,
    order_is_declared,
    bytes_are_the_text,
    covers_the_split,
    splits_are_disjoint,
    shards_are_the_export,
    no_training_data_at_evaluation,
    no_validation_data_before,
    fits_the_cap,
    within_the_clocks,
    no_network,
    warmed_up_without_text,
    seeds_share_one_config,
    code_is_counted,
    reload_is_deterministic,
    all_runs_are_disclosed,
    no_paid_prefix,
    space_is_a_piece,
    changes_change_something,
    switches_do_something,
)


def examine(dossier: Dossier) -> list[Verdict]:
    """Every rule's verdict, in order.

    Raises:
        UserError: if what the dossier names cannot be read.
    """
    return [check(dossier) for check in CHECKS]
