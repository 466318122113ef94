"""An array's bytes are read off the artifact: they add up, and they are the array's own where they can be."""

import pytest
import torch

from pgolf.formats.blob import decode, encode
from pgolf.formats.quantized import GroupedMatrix, LowRankMatrix, QuantizedMatrix, QuantizedModel
from pgolf.pack.ans_packer import AnsPacker
from pgolf.pack.brotli_packer import BrotliPacker
from services.coded_sizes import coded_sizes, order_0_bits


def scaled(seed: int, rows: int = 24, cols: int = 64, spread: float = 6.0) -> QuantizedMatrix:
    generator = torch.Generator().manual_seed(seed)
    q = (torch.randn(rows, cols, generator=generator) * spread).round().short()
    return QuantizedMatrix(q, torch.randint(-60, -30, (rows,), generator=generator).short())


def model(**matrices) -> QuantizedModel:
    roles = {name: name.partition("_")[0] for name in matrices}
    rest = {"gain": torch.ones(10, dtype=torch.float16)}
    return QuantizedModel({"layers": 1}, 16, matrices, roles, rest)


def sizes_of(m: QuantizedModel, packer=None):
    data = encode(m, (packer or AnsPacker()).codec())
    return coded_sizes(data, decode(data)), len(data)


def test_the_entropy_of_eight_values_by_hand():
    """Four values, each twice, take two bits each; one value takes none; nothing takes nothing."""
    assert order_0_bits(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]).numpy()) == 16.0
    assert order_0_bits(torch.zeros(9).numpy()) == 0.0
    assert order_0_bits(torch.zeros(0).numpy()) == 0.0


@pytest.mark.parametrize("packer", [AnsPacker(), BrotliPacker()])
def test_what_arrays_take_adds_up_to_the_artifact(packer):
    low_rank = LowRankMatrix(scaled(3), scaled(4, rows=2, cols=24), scaled(5, rows=2, cols=64))
    m = model(mlp_up=scaled(1), mlp_down=scaled(2), attention_q=low_rank)
    s, whole = sizes_of(m, packer)
    assert s.codec == packer.kind
    assert s.header + s.codes + s.halves == whole
    assert s.arrays.keys() == {(name, part) for name, part, _ in m.arrays()}
    streams = 3  # attention, mlp, steps: each 5 bytes of frame, after one byte that counts them
    frame = 0 if s.separable else 1 + 5 * streams
    assert sum(s.arrays.values()) == pytest.approx(s.codes - frame, abs=8 if s.separable else 1e-6)


def test_in_one_stream_a_tensor_pays_for_itself_alone():
    plain, _ = sizes_of(model(mlp_a=scaled(1), mlp_b=scaled(2), mlp_c=scaled(3)))
    wide, _ = sizes_of(model(mlp_a=scaled(1), mlp_b=scaled(2, spread=60.0), mlp_c=scaled(3)))
    grown = {name: wide.arrays[name] - plain.arrays[name] for name in plain.arrays}
    assert plain.separable
    assert grown["mlp_b", "q"] == pytest.approx(24 * 64 * 3.32 / 8, rel=0.05), "log2(10) bits a weight more"
    others = {name: more for name, more in grown.items() if name != ("mlp_b", "q")}
    assert all(abs(more) < 8 for more in others.values()), "a header is told by what it differs from the last"


def test_in_a_role_s_stream_bytes_go_by_entropy_and_other_roles_pay_nothing():
    m = model(mlp_a=scaled(1, spread=2.0), mlp_b=scaled(2, spread=30.0), attention_q=scaled(3))
    s, _ = sizes_of(m, BrotliPacker())
    assert not s.separable
    claims = {name: order_0_bits(m.matrices[name].q.numpy()) for name in ("mlp_a", "mlp_b")}
    assert s.arrays["mlp_b", "q"] / s.arrays["mlp_a", "q"] == pytest.approx(claims["mlp_b"] / claims["mlp_a"])
    other, _ = sizes_of(model(mlp_a=scaled(1), mlp_b=scaled(4), attention_q=scaled(3)), BrotliPacker())
    assert other.arrays["attention_q", "q"] == s.arrays["attention_q", "q"]


def test_constant_codes_have_no_entropy_and_share_by_their_number():
    zeros = {n: QuantizedMatrix(torch.zeros(r, 8).short(), torch.zeros(r).short())
             for n, r in (("mlp_a", 10), ("mlp_b", 30))}  # fmt: skip
    s, _ = sizes_of(model(**zeros), BrotliPacker())
    assert s.arrays["mlp_b", "q"] == 3 * s.arrays["mlp_a", "q"] > 0
    assert s.arrays["mlp_b", "row"] == 3 * s.arrays["mlp_a", "row"] > 0


def test_float16_magnitudes_are_paid_out_of_the_float16_stream():
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-1, 2, (12, 32), generator=generator).short()
    s, _ = sizes_of(model(mlp_t=GroupedMatrix(q, torch.rand(6, generator=generator).half(), 64)))
    assert s.arrays["mlp_t", "alpha"] == pytest.approx(s.halves * 6 / 16), "6 magnitudes beside a rest of 10"
    assert 12 * 32 * 1.5 / 8 < s.arrays["mlp_t", "q"] < 12 * 32 * 2 / 8
