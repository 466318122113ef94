"""The coder's tables and stream: exact on every machine, and a damaged stream is refused or read in bounds."""

import hashlib
import random
from decimal import Decimal, getcontext, localcontext
from pathlib import Path

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgolf.formats import ans
from pgolf.formats.ans import HISTOGRAM, LARGE, ONE, SHAPES, decode_arrays
from pgolf.pack.ans_coding import _Writer, encode_arrays

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "ans.bin"
TABLES_DIGEST = "b242b3589772940f38a49b1d4cd61b3da32d838410396029e1fc7c0a98fab74c"
EVERY_TABLE = [(level, shape) for level in range(LARGE) for shape in range(HISTOGRAM)]
SOME_TABLE = st.tuples(st.integers(0, LARGE - 1), st.integers(0, HISTOGRAM - 1))


def noise(n, seed=1):
    """Integers of -50..50 in a bell, of a generator that no library can change."""
    out = []
    for _ in range(n):
        total = 0
        for _ in range(4):
            seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
            total += (seed >> 33) % 26
        out.append(total - 50)
    return np.array(out)


def golden_arrays():
    """One of everything: plain, scaled by row and column, after its steps, rows alike, a histogram, outliers,
    more than 16 bits, more than 2 axes, empty."""
    plain = noise(40 * 30).reshape(40, 30) // 8
    rows, cols = np.arange(40) // 5, np.arange(30) % 3
    scaled = noise(40 * 30, 2).reshape(40, 30) * 2 ** rows[:, None] // 2 ** (4 + cols)
    stepped = noise(40 * 30, 3).reshape(40, 30) * 2 ** rows[:, None] // 64
    alike = noise(40 * 30, 4).reshape(40, 30) // 6
    alike[::2] = alike[0] + (noise(20 * 30, 5).reshape(20, 30) > 25)
    both = noise(40 * 30, 8).reshape(40, 30) * 2 ** rows[:, None] // 2 ** (4 + cols)
    outliers = plain.copy()
    outliers[3, 4], outliers[5, 6] = 32767, -32768
    return [
        plain, rows * -8 - 30, scaled, cols, -8 * rows, stepped, alike, np.abs(plain) % 3 * 5, outliers,
        8 * cols, -8 * rows, both, noise(60, 6) * 30_000_000, noise(24, 7).reshape(2, 3, 4),
        np.zeros((0, 5), int), np.array(7),
    ]  # fmt: skip


# The table rule


def test_the_tables_are_these_on_every_machine():
    digest = hashlib.sha256()
    for level, shape in EVERY_TABLE:
        digest.update(ans.table(level, shape).astype("<i4").tobytes())
    assert digest.hexdigest() == TABLES_DIGEST


@given(SOME_TABLE)
def test_a_tables_frequencies_sum_to_two_to_the_24_and_leave_nothing_out(which):
    frequencies = ans.table(*which)
    assert frequencies.sum() == ONE and frequencies.min() >= 1
    values = frequencies[:-1]
    assert np.array_equal(values, values[::-1]) and np.argmax(values) == len(values) // 2
    assert (np.diff(values[len(values) // 2 :]) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(SOME_TABLE)
def test_a_tables_probabilities_are_the_densitys_in_50_digits(which):
    """The slow twin: the same four points of a bin, the density written out in decimals."""
    level, shape = which
    quarters, scale = SHAPES[shape]
    with localcontext() as context:
        context.prec = 50
        a = Decimal(2) ** (Decimal(level - 32) / 8) * scale / 256
        beta = Decimal(quarters) / 4
        frequencies = ans.table(level, shape)
        largest = len(frequencies) // 2 - 1

        def density(x):
            return (-(((abs(x) / a).ln() * beta).exp())).exp()

        points = [Decimal(n) / 8 for n in (-3, -1, 1, 3)]
        half = [sum(density(k + p) for p in points) for k in range(largest + 1)]
        total = 2 * sum(half) - half[0]
        for k, weight in enumerate(half):
            want = float(weight / total)
            assert frequencies[largest + k] / ONE == pytest.approx(
                want, rel=0.01, abs=3 * len(frequencies) / ONE
            )


@pytest.mark.parametrize("shape", range(HISTOGRAM))
@pytest.mark.parametrize("level", [32, 44, 60, 71])
def test_a_level_is_an_eighth_of_an_octave_of_the_standard_deviation(level, shape):
    """With Sheppard's 1/12 for the width of the bins, from sigma 1 on."""
    frequencies = ans.table(level, shape)[:-1]
    x = np.arange(len(frequencies)) - len(frequencies) // 2
    variance = 2 ** ((level - 32) / 4)
    assert (frequencies * x**2).sum() / ONE == pytest.approx(variance + 1 / 12, rel=0.02)


@given(st.lists(st.integers(0, 2**28), min_size=1, max_size=60).filter(any))
def test_exact_is_integer_division_and_the_largest_takes_what_is_left(weights):
    n, total = len(weights) + 1, sum(weights)
    want = [w * (ONE - n) // total for w in weights] + [0]
    want[want.index(max(want))] += ONE - n - sum(want)
    assert ans.exact(np.array(weights)).tolist() == [w + 1 for w in want]


@pytest.mark.parametrize("level", range(0, 192, 7))
def test_power_is_a_root_of_two(level):
    assert ans.power(level) == pytest.approx(2 ** (level / 8), rel=1e-15)


def test_tables_heed_no_setting_of_numpy_or_decimal():
    want = [ans.exact(ans.density(*which)) for which in EVERY_TABLE[::37]]
    precision = getcontext().prec
    try:
        getcontext().prec = 3
        with np.errstate(all="raise"), np.printoptions(precision=2):
            got = [ans.exact(ans.density(*which)) for which in EVERY_TABLE[::37]]
    finally:
        getcontext().prec = precision
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("alike", "total", "n", "want"),
    [(8, 5, 2, 3), (8, 4, 3, 1), (8, 5, 3, 2), (8, -5, 2, -2), (4, 6, 1, 3), (16, 7, 2, 7), (8, 9, 0, 72)],
)
def test_what_is_alike_is_a_rounded_share_of_the_mean(alike, total, n, want):
    """Halves upward. Before the first row the total is zero, whatever is divided by."""
    assert ans.likeness(alike, np.array([total, 0]), n).tolist() == [want, 0]


# The stream


@settings(max_examples=30, deadline=None)
@given(SOME_TABLE)
def test_the_library_uses_just_these_frequencies(which):
    """The state of a fresh decoder picks a symbol by its last 24 bits: ask at both ends of every interval."""
    frequencies = ans.table(*which)
    _, of = ans.known(*which)
    ends = np.cumsum(frequencies)
    for symbol in range(len(frequencies)):
        for at in (ends[symbol] - frequencies[symbol], ends[symbol] - 1):
            state = np.array([at, 1], np.uint32)
            assert constriction.stream.stack.AnsCoder(state).decode(of) == symbol


def test_the_stack_is_the_textbooks():
    """A decoder of a few lines of integers reads what the library wrote: 64-bit state, 32-bit words."""
    tables = [(ans.table(40, 4), 300), (ans.table(3, 0), 200), (ans.table(71, 7), 100)]
    rng = random.Random(0)
    drawn = [[rng.choices(range(len(f)), f.tolist())[0] for _ in range(n)] for f, n in tables]
    coder = constriction.stream.stack.AnsCoder()
    for symbols, (frequencies, _) in zip(drawn[::-1], tables[::-1], strict=True):
        coder.encode_reverse(np.array(symbols, np.int32), ans.model(frequencies))
    words = coder.get_compressed().tolist()
    state = words.pop() << 32 | words.pop()
    for symbols, (frequencies, n) in zip(drawn, tables, strict=True):
        begins = [0, *np.cumsum(frequencies).tolist()]
        for i in range(n):
            at = state & ONE - 1
            symbol = next(s for s in range(len(frequencies)) if at < begins[s + 1])
            assert symbol == symbols[i]
            state = (state >> 24) * int(frequencies[symbol]) + at - begins[symbol]
            if state < 1 << 32 and words:
                state = state << 32 | words.pop()
    assert not words and state == 0


def test_the_committed_stream_still_reads():
    """If this fails, artifacts packed before cannot be read: raise the container's version, write a new file."""
    got = decode_arrays(GOLDEN.read_bytes(), [a.shape for a in golden_arrays()])
    assert all(np.array_equal(a, b) for a, b in zip(got, golden_arrays(), strict=True))
    assert [a.dtype for a in got] == [np.dtype(np.int32 if i == 12 else np.int16) for i in range(len(got))]


# Damage


def read_or_refuse(data, shapes):
    try:
        arrays = decode_arrays(data, shapes)
    except ValueError:
        return False
    assert [a.shape for a in arrays] == shapes
    return True


def small_arrays():
    return [a[:9, :11] if a.ndim == 2 else a[:9] for a in golden_arrays()[:9]]


@pytest.mark.parametrize(("arrays", "times"), [(small_arrays, 2400), (golden_arrays, 200)])
def test_altered_streams_are_refused_or_read_in_bounds(arrays, times):
    """Nearly all are refused: a bit that only changes which value a plain part stands for goes unseen here,
    and is what the container's digest is for."""
    whole, rng = encode_arrays(arrays()), random.Random(0)
    shapes = [a.shape for a in arrays()]
    read = 0
    for _ in range(times):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        read += read_or_refuse(bytes(data), shapes)
    assert read < times / 10


def test_cut_lengthened_and_foreign_streams_are_refused():
    whole, rng = encode_arrays(small_arrays()), random.Random(1)
    shapes = [a.shape for a in small_arrays()]
    for end in range(len(whole)):
        assert not read_or_refuse(whole[:end], shapes)
    for more in [
        bytes(4),
        b"\1\0\0\0",
        *(bytes([0, 0, i, 0]) for i in range(1, 256)),
    ]:  # one is like the mark
        assert not read_or_refuse(whole + more, shapes)
        assert not read_or_refuse(more + whole, shapes)
    for _ in range(300):
        assert not read_or_refuse(rng.randbytes(4 * rng.randrange(1, 400)), shapes)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=3).map(tuple), max_size=4))
def test_other_shapes_than_were_written_are_refused_or_read_in_bounds(shapes):
    read_or_refuse(GOLDEN.read_bytes(), shapes)


@pytest.mark.parametrize("shape", [(1 << 28,), (-1,), (1 << 20, 1 << 20), (1 << 70, 0), (-3, -5)])
def test_impossible_shapes_are_refused_unread(shape):
    with pytest.raises(ValueError, match="a stream holds"):
        decode_arrays(GOLDEN.read_bytes(), [shape])


def test_a_table_of_a_table_of_a_table_is_not_believed():
    """A sent histogram's own vector says that it has a histogram too: read as a shape, it has none."""
    writer = _Writer()
    writer.told(0, 0, HISTOGRAM, 1, 0, 0, HISTOGRAM, 32, np.array([9, 0, 0]), np.array([1, -1, 0, 0, 1]))
    want = writer.array((5,))
    writer.ends.append(len(writer.drawn))
    (got,) = decode_arrays(writer.data()[0], [(5,)])
    assert np.array_equal(got, want)


def test_an_empty_list_is_an_empty_stream():
    assert decode_arrays(encode_arrays([]), []) == []
    for data in (b"", b"\1\0\0\0", encode_arrays([np.array([3, 4])])):
        with pytest.raises(ValueError, match="ends where"):
            decode_arrays(data, [])
    with pytest.raises(ValueError, match="whole words"):
        decode_arrays(b"\1\0\0", [])
