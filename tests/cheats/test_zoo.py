"""Every cheat is convicted by its rules and by no others, and nobody lawful is."""

import re
from pathlib import Path

import pytest

from pgolf.certify.checks import examine
from pgolf.certify.dossier import Dossier
from tests.cheats import claims, evaluators, predictors, shards
from tests.cheats.zoo import ZOO

HOUSES = (predictors, evaluators, shards, claims)  # each adds to the zoo
README = Path(__file__).resolve().parents[2] / "README.md"


def rules(dossier: Dossier) -> set[str]:
    return {v.rule for v in examine(dossier) if v.convicts}


@pytest.mark.parametrize("name", ZOO)
def test_a_cheat_is_convicted_by_its_rules_and_by_no_others(name, tmp_path):
    found = [v for v in examine(ZOO[name].made(tmp_path)) if v.convicts]
    assert {v.rule for v in found} == set(ZOO[name].rules), [v.evidence for v in found]
    assert all(re.search(r"\d|[A-Za-z]", v.evidence) and v.remedy for v in found)
