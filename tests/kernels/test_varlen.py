"""What is around the varlen kernels: boundaries, flattening, and each package's own way of being called.

The kernels need a GPU (tests marked so in test_attention). Here three modules with their published
signatures stand in for them, and compute one document after the other from what they are given.
"""

import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.kernels import varlen
from pgolf.kernels.attention import attend, prepare
from tests.kernels.elsewhere import traced_attention
from tests.kernels.packed import drawn, plain, rows_of

KERNELS = ["torch_varlen", "flash2", "flash3"]


def by_document(q, k, v, cu_seqlens, longest, causal):
    assert q.dim() == 3
    assert cu_seqlens.dtype == torch.int32
    out = torch.full_like(q, float("nan"))
    for begin, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        assert 0 <= end - begin <= longest
        one, alone = slice(begin, end), torch.zeros(1, end - begin, dtype=torch.bool)
        if begin < end and causal:
            out[one] = plain(q[None, one], k[None, one], v[None, one], alone)[0]
    return out


class Standins:
    """The three packages; `calls` is what they were called with beside the tensors."""

    def __init__(self):
        self.calls = []

    def torch_2_11(self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None,
                   window_size=(-1, -1)):  # fmt: skip
        self.calls.append((cu_seq_q.tolist(), cu_seq_k.tolist(), max_q, max_k, scale, window_size))
        return by_document(query, key, value, cu_seq_q, max_q, causal=window_size == (-1, 0))

    def torch_2_13(self, query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None,
                   window_size=(-1, -1), enable_gqa=False, seqused_k=None, block_table=None,
                   num_splits=None):  # fmt: skip
        assert enable_gqa or query.shape[1] == key.shape[1]
        return self.torch_2_11(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window_size)

    def flash_2(self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0,
                softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
                deterministic=False, return_attn_probs=False, block_table=None):  # fmt: skip
        assert dropout_p == 0.0
        self.calls.append((cu_seqlens_q.tolist(), cu_seqlens_k.tolist(), max_seqlen_q, max_seqlen_k,
                           softmax_scale, window_size))  # fmt: skip
        return by_document(q, k, v, cu_seqlens_q, max_seqlen_q, causal)

    def flash_3(self, q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None,
                seqused_k=None, softmax_scale=None, causal=False, qv=None, q_descale=None, k_descale=None,
                v_descale=None, window_size=(-1, -1), attention_chunk=0, softcap=0.0, num_splits=1,
                pack_gqa=None, deterministic=False, sm_margin=0, return_attn_probs=False):  # fmt: skip
        assert seqused_q is None
        assert seqused_k is None
        return self.flash_2(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, 0.0,
                            softmax_scale, causal)  # fmt: skip

    def flash_3_beta(self, *args, **named):
        return self.flash_3(*args, **named), torch.zeros(1)


@pytest.fixture
def standins(monkeypatch):
    fake = Standins()
    monkeypatch.setattr(varlen, "_loaded", {})
    modules = {
        "torch.nn.attention.varlen": SimpleNamespace(varlen_attn=fake.torch_2_13),
        "flash_attn": SimpleNamespace(flash_attn_varlen_func=fake.flash_2),
        "flash_attn_interface": SimpleNamespace(flash_attn_varlen_func=fake.flash_3),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=25)
@given(
    starts=rows_of(),
    groups=st.sampled_from([(1, 1), (4, 2), (3, 1)]),
    more=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_through_its_package_it_is_document_isolated_causal_attention(
    kernel, starts, groups, more, seed, standins
):
    q, k, v = drawn(seed, starts, *groups, 4)
    got = attend(q, k, v, prepare(starts, kernel, starts.shape[1] + more))
    assert torch.allclose(got, plain(q, k, v, starts), atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_two_rows_by_hand(kernel, standins):
    """Documents 2, 2 | 1, 3: boundaries of both rows end to end, and the longest is what was promised."""
    starts = torch.tensor([[True, False, True, False], [False, True, False, False]])
    layout = prepare(starts, kernel, longest=7)
    assert layout.longest == 7
    attend(*drawn(0, starts, 2, 1), layout)
    boundaries = [0, 2, 4, 5] + [8] * 60
    window = (-1, 0) if kernel == "torch_varlen" else (-1, -1)
    assert standins.calls == [(boundaries, boundaries, 7, 7, None, window)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_promise_the_longest_is_a_row(kernel, standins):
    assert prepare(torch.zeros(2, 9, dtype=torch.bool), kernel).longest == 9


def test_a_broken_promise_is_found(standins):
    with pytest.raises(AssertionError, match="9 tokens, but at most 8"):
        prepare(torch.zeros(2, 9, dtype=torch.bool), "flash2", longest=8)


def test_torch_2_11_takes_groups_of_heads_without_being_told(standins, monkeypatch):
    older = SimpleNamespace(varlen_attn=standins.torch_2_11)
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", older)
    starts = torch.tensor([[True, False, True]])
    q, k, v = drawn(0, starts, 4, 2)
    assert torch.allclose(attend(q, k, v, prepare(starts, "torch_varlen")), plain(q, k, v, starts), atol=1e-5)


def test_early_builds_of_flash3_return_a_pair_under_another_name(standins, monkeypatch):
    beta = SimpleNamespace(flash_attn_varlen_func=standins.flash_3_beta)
    monkeypatch.delitem(sys.modules, "flash_attn_interface")
    monkeypatch.setitem(sys.modules, "flash_attn_3", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "flash_attn_3.flash_attn_interface", beta)
    starts = torch.tensor([[True, False, True]])
    q, k, v = drawn(0, starts, 4, 2)
    assert torch.allclose(attend(q, k, v, prepare(starts, "flash3")), plain(q, k, v, starts), atol=1e-5)


def test_a_package_that_is_not_there_is_an_import_error(monkeypatch):
    monkeypatch.setattr(varlen, "_loaded", {})
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    with pytest.raises(ImportError):
        prepare(torch.ones(1, 2, dtype=torch.bool), "flash2")


def test_the_installed_torch_is_called_as_it_wants_to_be():
    """Its own signature takes what we pass; the kernel behind it needs a GPU."""
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    told = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
    inspect.signature(varlen_attn).bind(*"qkvcc", 1, 1, window_size=(-1, 0), **told)


def test_in_a_compiled_model_torchs_kernel_is_one_operation(unchecked):
    """Traced by shapes alone, as the kernel is for GPUs."""
    starts = torch.tensor([[True, False, True, False]])
    q, k, v = (x.bfloat16() for x in drawn(0, starts, 4, 2, 64))
    operations = unchecked(traced_attention, "torch_varlen", q, k, v, starts)
    assert (
        operations.count("torch_attn._varlen_attn") + operations.count("torch_attn._varlen_attn.default") == 1
    )
