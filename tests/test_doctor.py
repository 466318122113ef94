"""What `pgolf doctor` says of this machine."""

import json

import pytest
import torch

from pgolf.doctor import examine
from pgolf.kernels import choice
from pgolf.kernels.attention import BACKENDS


@pytest.fixture(autouse=True)
def nothing_remembered():
    """What is timed once in a process is timed anew in every test, and what was pretended is forgotten."""
    choice._timed.cache_clear()
    yield
    choice._timed.cache_clear()


def test_on_a_cpu_it_says_what_attention_will_be_and_what_the_others_lack(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    facts = examine(tmp_path)
    assert facts["attention"] == "sdpa for rows up to 256 tokens, sdpa_documents for longer ones"
    assert set(facts["attention_backends"]) == set(BACKENDS)
    assert facts["attention_backends"]["sdpa_documents"] == "available"
    assert facts["attention_backends"]["flash3"] == "needs a CUDA device"
    assert (facts["cross_entropy"], facts["mlp"]) == ("eager", "eager")
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["packages"]["flash-attn"]
    json.dumps(facts)


@pytest.mark.parametrize(("major", "mlp"), [(8, "eager"), (9, "Triton kernels")])
def test_on_a_gpu_it_says_what_was_measured(tmp_path, monkeypatch, major, mlp):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (major, 0))
    monkeypatch.setattr(
        choice, "missing", lambda b, *_: None if b in ("flex", "sdpa_documents") else "what it is"
    )
    monkeypatch.setattr(choice, "milliseconds", lambda b, *_: {"flex": 3.0, "sdpa_documents": 20.0}[b])
    facts = examine(tmp_path)
    assert facts["attention"].startswith(
        "flex: the fastest of 2 on H100 at 1 x 98304 tokens, documents up to 2048"
    )
    assert facts["attention"].endswith("(sdpa_documents 20.00 ms, flex 3.00 ms)")
    assert (facts["cross_entropy"], facts["mlp"]) == ("one Triton kernel", mlp)
