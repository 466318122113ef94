"""Which attention backend is taken, and what is said of it."""

import sys
from types import SimpleNamespace

import pytest
import torch

from pgolf.errors import ConfigError, UserError
from pgolf.kernels import choice, varlen
from pgolf.kernels.attention import BACKENDS
from pgolf.kernels.choice import MASK_ROW_TOKENS, Shape, choose, milliseconds, missing, packed_starts
from tests.kernels.elsewhere import refusal

SHORT = Shape(heads=8, kv_heads=4, dim=64, time=MASK_ROW_TOKENS)
LONG = SHORT._replace(time=MASK_ROW_TOKENS + 1)
RECORD = Shape(heads=8, kv_heads=4, dim=64, time=98_304, longest=2048)


@pytest.fixture(autouse=True)
def nothing_remembered():
    """What is timed once in a process is timed anew in every test, and what was pretended is forgotten."""
    choice._timed.cache_clear()
    yield
    choice._timed.cache_clear()


def on_cpu(shape, name="auto", **named):
    return choose("cpu", torch.float32, shape, name, **named)


def test_on_a_cpu_the_length_of_a_row_decides():
    assert on_cpu(SHORT).name == "sdpa"
    assert on_cpu(LONG).name == "sdpa_documents"
    assert "rows of 257 tokens" in on_cpu(LONG).why
    assert on_cpu(LONG).milliseconds == {}


def test_inside_a_compiled_model_a_cpu_writes_the_mask_out():
    assert on_cpu(LONG, compiled=True).name == "sdpa"
    with pytest.raises(ConfigError, match="not compiled"):
        on_cpu(LONG, "sdpa_documents", compiled=True)


@pytest.mark.parametrize("name", ["sdpa", "sdpa_documents"])
def test_a_name_is_taken(name):
    assert on_cpu(SHORT, name)[:2] == (name, "named")
    assert on_cpu(LONG, name)[:2] == (name, "named")


@pytest.mark.parametrize("name", ["flex", "torch_varlen", "flash2", "flash3"])
def test_a_name_that_cannot_run_here_is_an_error_and_nothing_takes_its_place(name):
    with pytest.raises(ConfigError) as error:
        on_cpu(SHORT, name)
    assert error.value.rule == f"attention backend {name} needs a CUDA device"
    assert error.value.remedy == "one of auto, sdpa, sdpa_documents"


def test_a_name_that_does_not_exist_names_the_nearest():
    with pytest.raises(ConfigError, match="no such attention backend") as error:
        on_cpu(SHORT, "flash_3")
    assert "did you mean 'flash3'" in error.value.remedy


class Gpu:
    """A stand-in for a GPU: its capability, its packages, and what timing would say there."""

    def __init__(self, monkeypatch, major, packages, times):
        self.asked, self.compiled = [], []
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
        monkeypatch.setattr(varlen, "_loaded", {})
        for name in ("torch.nn.attention.varlen", "flash_attn", "flash_attn_interface", "flash_attn_3"):
            module = SimpleNamespace(varlen_attn=len, flash_attn_varlen_func=len)
            monkeypatch.setitem(sys.modules, name, module if name in packages else None)
        self.times = times
        monkeypatch.setattr(choice, "milliseconds", self.milliseconds)

    def milliseconds(self, backend, device, dtype, shape, compiled):
        self.asked.append(backend)
        self.compiled.append(compiled)
        return self.times[backend]


TIMES = {"sdpa": 9.0, "sdpa_documents": 7.0, "flex": 2.0, "torch_varlen": 1.5, "flash2": 1.25, "flash3": 1.0}
ALL = ("torch.nn.attention.varlen", "flash_attn", "flash_attn_interface")


def on_gpu(shape=RECORD, name="auto", dtype=torch.bfloat16, **named):
    return choose("cuda", dtype, shape, name, **named)


def test_on_a_gpu_the_fastest_of_what_runs_is_taken_and_every_time_reported(monkeypatch):
    Gpu(monkeypatch, 9, ALL, TIMES)
    got = on_gpu()
    assert got.name == "flash3"
    assert got.milliseconds == {
        b: t for b, t in TIMES.items() if b != "sdpa"
    }  # its mask would have 9.7e9 entries
    assert got.why == "the fastest of 5 on A100 at 1 x 98304 tokens, documents up to 2048, 8/4 heads of 64"
    assert "sdpa" in on_gpu(SHORT).milliseconds


def test_what_is_slow_is_not_taken_whatever_its_name(monkeypatch):
    Gpu(monkeypatch, 9, ALL, TIMES | {"flash3": 99.0, "flex": 0.5})
    assert on_gpu().name == "flex"


def test_what_is_not_installed_is_not_timed_and_by_name_says_so(monkeypatch):
    gpu = Gpu(monkeypatch, 9, ("torch.nn.attention.varlen",), TIMES)
    assert on_gpu().name == "torch_varlen"
    assert gpu.asked == ["sdpa_documents", "flex", "torch_varlen"]
    with pytest.raises(ConfigError, match=r"flash2 needs the package flash_attn \("):
        on_gpu(name="flash2")


def test_times_are_taken_once_in_a_process(monkeypatch):
    gpu = Gpu(monkeypatch, 9, ALL, TIMES)
    assert on_gpu() == on_gpu()
    assert len(gpu.asked) == 5


def test_a_named_backend_is_not_timed(monkeypatch):
    gpu = Gpu(monkeypatch, 9, ALL, TIMES)
    assert on_gpu(name="flash2") == ("flash2", "named", {})
    assert gpu.asked == []


@pytest.mark.parametrize(("backend", "major", "dtype", "dim", "lacks"), [
    ("flash3", 8, torch.bfloat16, 64, "a GPU of compute capability 9, not 8"),
    ("flash3", 10, torch.bfloat16, 64, "a GPU of compute capability 9, not 10"),
    ("flash2", 7, torch.bfloat16, 64, "a GPU of compute capability 8 or newer, not 7"),
    ("torch_varlen", 9, torch.float32, 64, "activations of bfloat16 or float16, not torch.float32"),
    ("flash2", 9, torch.float16, 20, "head dimensions of a multiple of 8 up to 256, not 20"),
    ("flash2", 9, torch.float16, 264, "head dimensions of a multiple of 8 up to 256, not 264"),
    ("flex", 9, torch.bfloat16, 8, "heads of at least 16 dimensions, not 8"),
    ("flash2", 10, torch.float16, 256, None),
    ("flex", 8, torch.float32, 16, None),
])  # fmt: skip
def test_what_a_backend_needs(monkeypatch, backend, major, dtype, dim, lacks):
    Gpu(monkeypatch, major, ALL, TIMES)
    assert missing(backend, "cuda", dtype, dim) == lacks


@pytest.mark.parametrize("backend", ["sdpa", "sdpa_documents"])
def test_timing_measures_forward_and_backward(backend):
    """On the CPU nobody asks for it; it is the same code."""
    shape = Shape(heads=2, kv_heads=1, dim=4, time=64, rows=2, longest=32)
    assert 0 < milliseconds(backend, torch.device("cpu"), torch.float32, shape) < 1000


@pytest.mark.heavy
def test_for_a_compiled_model_it_is_timed_inside_a_graph(unchecked):
    """Where it cannot be part of one, that is said before the training step is compiled."""
    shape = Shape(heads=2, kv_heads=1, dim=4, time=16)
    cpu = torch.device("cpu")
    assert 0 < unchecked(milliseconds, "sdpa", cpu, torch.float32, shape, True) < 1000
    said = unchecked(refusal, milliseconds, "sdpa_documents", cpu, torch.float32, shape, True)
    assert "attention backend sdpa_documents runs where it is installed" in said


def test_times_inside_and_outside_of_a_graph_are_two(monkeypatch):
    gpu = Gpu(monkeypatch, 9, ALL, TIMES)
    assert set(on_gpu().milliseconds) - set(on_gpu(compiled=True).milliseconds) == {"sdpa_documents"}
    assert gpu.compiled == [False] * 5 + [True] * 4


def test_what_is_installed_and_fails_is_named(monkeypatch):
    def broken(*args):
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(choice, "attend", broken)
    with pytest.raises(UserError, match=r"attention backend sdpa .*\n.*no kernel image"):
        milliseconds("sdpa", torch.device("cpu"), torch.float32, Shape(1, 1, 4, 8))


def test_the_timed_batch_has_documents_of_the_allowed_length():
    starts = packed_starts(RECORD)
    assert starts.shape == (1, 98_304)
    lengths = starts[0].nonzero().squeeze(1).diff()
    assert lengths.max() <= 2048
    assert 400 < lengths.float().mean() < 800  # 800 in the mean before the cuts


@pytest.mark.gpu
def test_on_this_gpu_something_is_chosen_and_reported():
    got = choose("cuda", torch.bfloat16, Shape(8, 4, 64, time=8192, rows=2, longest=2048))
    assert got.name in got.milliseconds
    assert got.milliseconds[got.name] == min(got.milliseconds.values())
    assert set(got.milliseconds) <= set(BACKENDS)
