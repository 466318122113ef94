"""Ranks end together: when one fails, the others say why, and soon."""

import json
import multiprocessing
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from pgolf.runtime import HEARD, Runtime, _await_readers
from tests.train.conftest import written
from tests.train.failing import rank

LIMIT_SECONDS = 30


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tokens"))


def ends(tokens: Path, out: Path, world: int, who: int, how: str) -> tuple[dict[int, dict[str, Any]], float]:
    """How every rank that could still say so ended, and when the failure was."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    context = multiprocessing.get_context("spawn")
    ranks = [
        context.Process(target=rank, args=(i, world, address, tokens, out, who, how)) for i in range(world)
    ]
    for process in ranks:
        process.start()
    until = time.monotonic() + 120
    for process in ranks:
        process.join(max(until - time.monotonic(), 0.1))
        assert process.exitcode is not None, "a rank waits for ever"
    told = {i: json.loads(f.read_text()) for i in range(world) if (f := out / f"{i}.json").exists()}
    return told, float((out / "failed_at").read_text())


@pytest.mark.heavy
@pytest.mark.parametrize(("world", "who"), [(2, 0), (3, 1)])
def test_a_rank_that_raises_ends_the_others_with_its_own_traceback(tokens, tmp_path, world, who):
    told, failed_at = ends(tokens, tmp_path, world, who, "raise")
    assert told[who]["kind"] == "PlannedFailure", "the failing rank's own error is not replaced"
    assert told[who]["waited"] is (who == 0)
    for other in set(range(world)) - {who}:
        assert told[other]["kind"] == "RankFailed"
        assert f"rank {who} failed:" in told[other]["text"]
        assert "PlannedFailure: as planned" in told[other]["text"]
        assert "in add" in told[other]["text"], "the traceback, with the place"
        assert told[other]["at"] - failed_at < LIMIT_SECONDS
    assert told[who]["at"] - failed_at < LIMIT_SECONDS
    assert not list(tmp_path.glob("rank*/*")), "nothing was published"


@pytest.mark.heavy
@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_is_killed_ends_the_others(tokens, tmp_path, who):
    """It leaves no word, and if it was rank 0 it takes the place where words are left with it."""
    told, failed_at = ends(tokens, tmp_path, 2, who, "kill")
    assert who not in told
    survivor = told[1 - who]
    assert survivor["kind"] == "RankFailed"
    assert "vanished without a word" in survivor["text"]
    assert survivor["at"] - failed_at < LIMIT_SECONDS


def test_the_rank_that_keeps_the_store_waits_for_its_readers(monkeypatch):
    """But not for ever: a reader may be gone itself."""
    store = dist.TCPStore("127.0.0.1", 0, 1, True)
    monkeypatch.setattr("pgolf.runtime.LAST_WORD_SECONDS", 0.3)
    began = time.monotonic()
    _await_readers(store, 2)
    assert 0.3 <= time.monotonic() - began < 3
    store.add(HEARD, 1)
    reader = threading.Timer(0.1, lambda: store.add(HEARD, 1))
    monkeypatch.setattr("pgolf.runtime.LAST_WORD_SECONDS", 60.0)
    reader.start()
    _await_readers(store, 2)
    reader.join()
    assert time.monotonic() - began < 20


def test_one_rank_needs_no_group():
    with Runtime().joined() as runtime:
        assert runtime.agree("yes") == "yes"
