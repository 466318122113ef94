"""Every memory's space makes valid sections below its path, and the choice among them reaches each."""

import importlib

import optuna
import pytest

from pgolf.evaluate.document_chunks import DocumentChunks
from search_spaces.evaluate.memories import SPACES, memories


def trials(number: int):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return (study.ask() for _ in range(number))


@pytest.mark.parametrize("name", [*SPACES, "gate", "trust"])
def test_a_space_makes_valid_sections_below_its_path(name):
    space = getattr(importlib.import_module(f"search_spaces.evaluate.memory.{name}"), name)
    for trial in trials(30):
        section = space(trial, "some.path")
        assert section is None or type(section).model_validate(section.plain()) == section
        assert all(p.startswith("some.path.") for p in trial.params)


def test_the_gates_of_all_memories_are_searched():
    gated: dict[str, set[bool]] = {}
    asked = set()
    for trial in trials(400):
        if (memory := memories(trial, "memory")) is not None:
            gated.setdefault(memory.kind, set()).add(getattr(memory, "gate", None) is None)
            asked |= trial.params.keys()
    assert {kind for kind, off in gated.items() if len(off) == 2} == {
        "backoff",
        "ppm",
        "unigram_cache",
        "knn",
    }
    assert {
        "memory.gate.belief",
        "memory.gate.share_rate",
        "memory.threshold",
        "memory.gate.threshold",
    } <= asked


def test_the_choice_reaches_every_memory_and_none():
    made = [memories(trial, "memory") for trial in trials(200)]
    assert {m.kind for m in made if m is not None} == SPACES.keys()
    assert None in made
    for memory in made[:40]:
        mode = DocumentChunks(context=64, memory=memory)
        assert DocumentChunks.model_validate(mode.plain()) == mode
