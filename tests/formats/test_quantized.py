"""Quantized models and checkpoints on disk: exact, without pickle, and refused when damaged."""

import numpy as np
import pytest
import torch

from pgolf.errors import StoreError
from pgolf.formats.arrays import read_arrays, write_arrays
from pgolf.formats.checkpoint import META, WEIGHTS, Checkpoint
from pgolf.formats.quantized import CODES, LAYOUT, QuantizedMatrix, QuantizedModel
from tests.formats.samples import assert_equal, quantized


def test_codes_times_steps_are_the_weights():
    """Steps of 2^(-8/8) and 2^(-27/8): a half, and as near a tenth as there is."""
    m = QuantizedMatrix(
        torch.tensor([[1, -2], [3, 0]], dtype=torch.int16), torch.tensor([-8, -27], dtype=torch.int16)
    )
    tenth = float(np.float32(2.0 ** (-27 / 8)))  # as it is stored
    assert m.dequantize().tolist() == [[0.5, -1.0], [float(np.float32(3 * tenth)), 0.0]]
    assert m.dequantize().dtype == torch.float32


def test_a_quantized_model_comes_back_bit_for_bit(tmp_path):
    quantized().write(tmp_path)
    assert_equal(QuantizedModel.read(tmp_path), quantized())


def test_its_weights_are_float32_of_every_name():
    model = quantized()
    weights = model.weights()
    assert list(weights) == [*model.matrices, *model.rest]
    assert all(w.dtype == torch.float32 for w in weights.values())
    assert torch.equal(weights["a.w"], model.matrices["a.w"].dequantize())


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    weights = {"b.w": torch.randn(3, 4), "a/with/slashes": torch.tensor(float("inf")), "z": torch.zeros(0)}
    Checkpoint({"layers": 2}, 77, weights).write(tmp_path)
    again = Checkpoint.read(tmp_path)
    assert (again.model, again.vocab_size, list(again.weights)) == ({"layers": 2}, 77, list(weights))
    for name, w in weights.items():
        assert torch.equal(again.weights[name], w)


@pytest.mark.parametrize("file", [WEIGHTS, META])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_a_damaged_checkpoint_is_a_store_error(tmp_path, file, damage):
    Checkpoint({"layers": 2}, 77, {"w": torch.randn(30, 4)}).write(tmp_path)
    spoil(tmp_path / file, damage)
    with pytest.raises(StoreError):
        Checkpoint.read(tmp_path)


@pytest.mark.parametrize("file", [CODES, LAYOUT, META])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "foreign"])
def test_a_damaged_quantized_model_is_a_store_error(tmp_path, file, damage):
    quantized().write(tmp_path)
    spoil(tmp_path / file, damage)
    with pytest.raises(StoreError):
        QuantizedModel.read(tmp_path)


def spoil(path, damage: str) -> None:
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "cut": whole[: len(whole) // 2], "foreign": b"\x89PNG" + whole[4:]}[damage]
        )


def test_equal_arrays_make_equal_files(tmp_path):
    arrays = {"b": np.arange(5.0), "a/x": np.array([[1, 2]], dtype=np.int8).T}
    for name in ("one.npz", "two.npz"):
        write_arrays(tmp_path / name, arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    again = read_arrays(tmp_path / "one.npz")
    assert list(again) == ["b", "a/x"]
    assert again["a/x"].tolist() == [[1], [2]]


def test_an_array_that_would_need_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", a=np.array([object()]))
    with pytest.raises(StoreError, match="can be read"):
        read_arrays(tmp_path / "evil.npz")
