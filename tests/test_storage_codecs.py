"""Sections: what was encoded comes back (or within half a step), laid out as its formula says, in the bytes predicted."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse as scipy_sparse

from course_lib.storage import (
    CODECS,
    decode_tensor,
    encode_tensor,
    n_filler_zeros,
    predicted_bytes,
)
from course_lib.storage.sizes import PREDICTED

ROOT = Path(__file__).resolve().parents[1]
LOSSY = ("fp16", "int8", "int4")
LOSSLESS = tuple(name for name in CODECS if name not in LOSSY)


def pruned_and_shared(shape, density=0.1, n_values=15, seed=0):
    """Zeros and `n_values` other values that fp16 does not hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(n_values, generator=generator)
    W = table[torch.randint(0, n_values, shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < density, W, 0.0)


@st.composite
def tensors(draw):
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=3)))
    return pruned_and_shared(shape, draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])), seed=draw(st.integers(0, 999)))


# ---- one tensor, one section


@given(tensors(), st.sampled_from(LOSSLESS))
def test_lossless_codecs_return_every_bit(W, codec):
    before = W.clone()
    data = encode_tensor(W, codec)
    assert decode_tensor(data, codec, tuple(W.shape)).equal(W) and W.equal(before)
    assert data == encode_tensor(W, codec)


@given(tensors(), st.sampled_from(LOSSY))
def test_rounding_codecs_stay_within_half_a_step(W, codec):
    """fp16: 11 significant bits. int8: s = max|w| of the row / 127. int4: s rounded to fp16 (2^-11), codes reach 7 s only."""
    W_hat = decode_tensor(encode_tensor(W, codec), codec, tuple(W.shape))
    largest = float(W.abs().max())
    bound = {"fp16": 2**-11 * largest, "int8": largest / 254, "int4": largest / 14 + largest * 2**-11}[codec]
    assert float((W_hat - W).abs().max()) <= bound * (1 + 1e-5) + 1e-7


def test_int8_and_int4_spelled_out():
    """Eq. (3), (4) of `dense`, row by row and group by group."""
    W = torch.randn(3, 70, generator=torch.Generator().manual_seed(1))
    rows, groups = [], []
    for row in W.tolist():
        s = max(map(abs, row)) / 127
        rows.append([round(w / s) * s for w in row])
        out = []
        for g in range(0, 70, 32):
            s = float(np.float16(max(map(abs, row[g : g + 32])) / 7))
            out += [max(-7, min(7, round(w / s))) * s for w in row[g : g + 32]]
        groups.append(out)
    for codec, expected in (("int8", rows), ("int4", groups)):
        got = decode_tensor(encode_tensor(W, codec), codec, (3, 70))
        assert torch.allclose(got, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "W", [torch.zeros(3, 4), torch.full((2, 5), 0.5), torch.tensor(3.0), torch.tensor([-2.0]), torch.tensor([[0.0, 0], [0, 7]])]
)
def test_zeros_constants_and_single_numbers_survive(codec, W):
    """A zero row has no scale; scales of these values are exact enough that even int4 returns them to 2^-10."""
    W_hat = decode_tensor(encode_tensor(W, codec), codec, tuple(W.shape))
    assert W_hat.shape == W.shape and torch.allclose(W_hat, W, rtol=2**-10)


@pytest.mark.parametrize("codec", CODECS)
def test_an_empty_tensor_takes_no_bytes(codec):
    assert encode_tensor(torch.zeros(0, 3), codec) == b""
    assert decode_tensor(b"", codec, (0, 3)).shape == (0, 3)


def test_int4_below_the_smallest_scale_is_zero():
    """The fp16 scale underflows to 0; the codes beside it are 0 too, not what a step of 1 would have given."""
    W = torch.full((1, 3), 1e-8)
    data = encode_tensor(W, "int4")
    assert decode_tensor(data, "int4", (1, 3)).equal(torch.zeros(1, 3)) and data == bytes(4)


def test_a_vector_is_one_row():
    """One scale for the whole vector: 4 + n bytes of int8, and two row starts in csr."""
    W = torch.tensor([1.0, 0.0, 127.0])
    assert encode_tensor(W, "int8") == np.float32(1).tobytes() + bytes([1, 0, 127])
    assert len(encode_tensor(W, "csr")) == 8 + 2 * 6


def test_csr_is_the_layout_that_scipy_uses():
    W = pruned_and_shared((6, 11), 0.3)
    theirs = scipy_sparse.csr_matrix(W.numpy())
    expected = theirs.indptr.astype("<u4").tobytes() + theirs.indices.astype("<u2").tobytes() + theirs.data.tobytes()
    assert encode_tensor(W, "csr") == expected


def test_csr_with_very_long_rows_has_wide_columns():
    W = torch.zeros(1, 70_000)
    W[0, 69_999] = 1
    data = encode_tensor(W, "csr")
    assert len(data) == predicted_bytes("csr", (1, 70_000), 1 / 70_000) == 16
    assert decode_tensor(data, "csr", (1, 70_000)).equal(W)


def test_relative_index_by_hand():
    """Han's figure 2 with 4 bits: a value after 2 zeros, then one after 20 = 16 + 4: filler (15, 0), then gap 4."""
    W = torch.zeros(30)
    W[2], W[23] = 3.5, 1.5
    expected = (3).to_bytes(4, "little") + bytes([2 | 15 << 4, 4]) + np.array([3.5, 0, 1.5], "<f4").tobytes()
    assert encode_tensor(W, "relative4") == expected
    assert n_filler_zeros(W != 0, 4) == 1 and n_filler_zeros(W != 0, 8) == 0
    W = torch.zeros(16 * 3 + 1)
    W[48] = 1  # gap 48 = 3 fillers and a gap of 0
    assert n_filler_zeros(W != 0, 4) == 3 and decode_tensor(encode_tensor(W, "relative4"), "relative4", (49,)).equal(W)


def test_bitmask_by_hand():
    W = torch.tensor([0.0, 2.0, 0, 0, 0, 0, 0, 0, 0, 4.0])
    assert encode_tensor(W, "bitmask") == b"\x02\x02" + np.array([2, 4], "<f4").tobytes()


def test_packed_by_hand():
    """Values -1, 0, 2 exist in fp16, so the table is halved; codes 2, 1, 0, 1, 2 at 2 bits: 10 01 00 01 10 from the right."""
    W = torch.tensor([2.0, 0.0, -1.0, -0.0, 2.0])
    assert encode_tensor(W, "packed") == b"\x03\x01" + np.array([-1, 0, 2], "<f2").tobytes() + bytes([0b01000110, 0b10])
    assert decode_tensor(encode_tensor(W, "packed"), "packed", (5,)).equal(W)


@pytest.mark.parametrize("codec", ["raw", "packed", "huffman", "range", "han4", "han8"])
@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int64, torch.uint8, torch.int32, torch.int16, torch.float64, torch.float16]
)
def test_other_types_keep_their_type(codec, dtype):
    X = (torch.arange(40).reshape(5, 8) % 7).to(dtype)
    back = decode_tensor(encode_tensor(X, codec), codec, (5, 8), dtype)
    assert back.dtype == dtype and back.equal(X)


def test_raw_keeps_what_no_other_codec_takes():
    X = torch.tensor([float("nan"), -0.0, float("inf")])
    assert encode_tensor(X, "raw") == X.numpy().tobytes()
    flags = torch.tensor([True, False])
    assert decode_tensor(encode_tensor(flags, "raw"), "raw", (2,), torch.bool).equal(flags)


# ---- predicted, then measured


@pytest.mark.parametrize("shape", [(40, 70), (1, 33), (7,), (4, 3, 5, 5)])
@pytest.mark.parametrize("codec", ["fp32", "fp16", "int8", "int4", "csr", "bitmask"])
def test_dense_and_sparse_sections_have_the_size_predicted(codec, shape):
    W = pruned_and_shared(shape, 0.3)
    density = float((W != 0).double().mean())
    assert len(encode_tensor(W, codec)) == predicted_bytes(codec, shape, density)


@pytest.mark.parametrize("value_bytes", [2, 4])
@pytest.mark.parametrize("n_bits", [1, 2, 4, 7, 8])
def test_codebook_sections_have_the_size_predicted(n_bits, value_bytes):
    """packed and huffman exactly; range within 1 % and 2 bytes, since the last state of the coder holds 0 to 16 bits."""
    values = torch.arange(1, 2**n_bits + 1) * (0.5 if value_bytes == 2 else 0.1)
    codes = (torch.rand(50, 200, generator=torch.Generator().manual_seed(0)) ** 2 * 2**n_bits).long()
    W = values[codes]
    counts = codes.flatten().bincount(minlength=2**n_bits)
    assert len(encode_tensor(W, "packed")) == predicted_bytes("packed", (50, 200), n_bits=n_bits, value_bytes=value_bytes)
    for codec, slack in (("huffman", 0), ("range", 2)):
        predicted = predicted_bytes(codec, (50, 200), counts=counts, value_bytes=value_bytes)
        assert abs(len(encode_tensor(W, codec)) - predicted) <= slack * (1 + predicted / 200)


@pytest.mark.parametrize(
    ("codec", "n_bits", "density"), [("relative4", 4, 0.03), ("relative4", 4, 0.2), ("relative8", 8, 0.01)]
)
def test_relative_sections_have_the_size_expected(codec, n_bits, density):
    """The share of fillers is an expectation: r / (1 - r) a value; 5 standard deviations of a sum of geometric numbers."""
    codec, W = f"relative{n_bits}", pruned_and_shared((300, 400), density, seed=4)
    m = int((W != 0).sum())
    r = (1 - density) ** 2**n_bits
    sigma = math.sqrt(m * r) / (1 - r)
    fillers = n_filler_zeros(W != 0, n_bits)
    assert len(encode_tensor(W, codec)) == 4 + -(-n_bits * (m + fillers) // 8) + 4 * (m + fillers)
    predicted = predicted_bytes(codec, (300, 400), m / W.numel())
    assert abs(len(encode_tensor(W, codec)) - predicted) <= 5 * sigma * (n_bits / 8 + 4) + 5


def test_the_range_codec_is_near_the_entropy_and_huffman_stops_at_one_bit():
    """95 % zeros: the entropy is 0.43 bit a weight; Huffman cannot go below 1 bit, Han's distances can."""
    W = pruned_and_shared((300, 784), 0.05, n_values=8)
    n = W.numel()
    d = float((W != 0).double().mean())
    entropy_bytes = n / 8 * (-d * math.log2(d) - (1 - d) * math.log2(1 - d) + 3 * d)
    assert len(encode_tensor(W, "range")) < 1.02 * entropy_bytes + 60
    assert len(encode_tensor(W, "huffman")) > n / 8
    assert len(encode_tensor(W, "han8")) < 0.5 * n / 8


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    W = torch.randn(300, 300)
    for call, error, says in [
        (lambda: encode_tensor(W, "zip"), ValueError, "known: 'raw', 'fp32'"),
        (lambda: encode_tensor(W.double(), "fp32"), TypeError, r"takes float32, got torch.float64; use 'raw', or X.float\(\)"),
        (lambda: encode_tensor(W.to(torch.complex64), "raw"), TypeError, "no file type"),
        (lambda: encode_tensor(W * 1e5, "fp16"), ValueError, "fp16 ends at 65504"),
        (lambda: encode_tensor(W * 1e6, "int4"), ValueError, "scales of int4 are fp16"),
        (lambda: encode_tensor(W, "packed"), ValueError, "share weights|at most 8 bits"),
        (lambda: encode_tensor(W, "range"), ValueError, "share weights first"),
        (lambda: encode_tensor(torch.tensor([float("inf")]), "csr"), ValueError, "1 infinite"),
        (lambda: decode_tensor(b"123", "fp32", (1,)), ValueError, "1 too early"),
        (lambda: decode_tensor(b"12345", "fp32", (1,)), ValueError, "1 bytes too many"),
        (lambda: decode_tensor(b"", "fp32", (1,), torch.int8), ValueError, "does not hold"),
        (lambda: decode_tensor(b"", "raw", (2**20, 2**20)), ValueError, "beyond this format"),
        (lambda: predicted_bytes("raw", (3,)), ValueError, "unknown codec"),
        (lambda: predicted_bytes("csr", (3,), density=50), ValueError, "did you mean 0.5"),
        (lambda: predicted_bytes("range", (3,)), ValueError, "needs counts"),
        (lambda: predicted_bytes("huffman", (3,), counts=torch.tensor([3, 0])), ValueError, "all positive"),
        (lambda: predicted_bytes("packed", (3,), n_bits=9), ValueError, "from 1 to 8"),
        (lambda: n_filler_zeros(W != 0, 0), ValueError, "from 1 to 8"),
    ]:
        with pytest.raises(error, match=says):
            call()


def test_every_codec_but_three_has_a_predicted_size():
    assert set(CODECS) - set(PREDICTED) == {"raw", "han4", "han8"}


def test_sections_that_contradict_themselves_are_refused():
    """What a checksum cannot catch (a faulty writer, a hand that mends the sum) must still end in a sentence."""
    f4, u4 = (lambda *x: np.array(x, "<f4").tobytes()), (lambda *x: np.array(x, "<u4").tobytes())
    table = b"\x03\x01" + np.array([0, 1, 2], "<f2").tobytes()
    han = bytearray(encode_tensor(pruned_and_shared((3, 14)), "han4"))
    for codec, shape, data, says in [
        ("relative4", (5,), u4(1) + bytes([5]) + f4(1.0), "entry stands at 5, beyond 5"),
        ("packed", (2,), table + bytes([0b1101]), "code 3 points beyond 3 values"),
        ("packed", (2,), b"\x00\x01" + bytes(1), "make no sense"),
        ("huffman", (2,), b"\x03\x02" + bytes(9), "make no sense"),
        ("csr", (2, 3), u4(0, 2, 1) + bytes([0, 0]) + f4(1.0), "out of order"),
        ("csr", (1, 3), u4(0, 1) + bytes([3, 0]) + f4(1.0), "out of order"),
        ("bitmask", (3,), bytes([0b1001]) + f4(1.0), "spare bits"),
        ("int8", (1, 1), f4(float("inf")) + b"\x01", "infinite"),
        ("int4", (1, 1), np.array([np.nan], "<f2").tobytes() + b"\x01", "NaN"),
        ("han4", (3, 14), bytes([99]) + bytes(han[1:]), "99 entries for 42 weights"),
    ]:
        with pytest.raises(ValueError, match=says):
            decode_tensor(data, codec, shape)
