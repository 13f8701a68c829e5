"""Packed codes: the stream is the integer that eq. (2) names, and nothing is lost on the way back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.quantization.packing import pack_bits, packed_size_bytes, unpack_bits


@st.composite
def codes(draw):
    n_bits = draw(st.integers(1, 8))
    signed = draw(st.booleans())
    low = -(2 ** (n_bits - 1)) if signed else 0
    values = draw(st.lists(st.integers(low, low + 2**n_bits - 1), min_size=1, max_size=60))
    return torch.tensor(values), n_bits, signed


@given(codes())
def test_the_bytes_are_one_large_integer_written_little_endian(case):
    """Eq. (2) and (3) with Python's unbounded integers, which share nothing with shifts on tensors."""
    q, n_bits, _ = case
    stream = sum((v % 2**n_bits) << (i * n_bits) for i, v in enumerate(q.tolist()))
    size_bytes = math.ceil(len(q) * n_bits / 8)
    assert bytes(pack_bits(q, n_bits).tolist()) == stream.to_bytes(size_bytes, "little")
    assert packed_size_bytes(len(q), n_bits) == size_bytes


@given(codes())
def test_numpy_packs_the_same_bits(case):
    q, n_bits, _ = case
    bits = (q.numpy()[:, None] >> np.arange(n_bits)) & 1
    assert np.array_equal(pack_bits(q, n_bits).numpy(), np.packbits(bits.astype(np.uint8), bitorder="little"))


@given(codes())
def test_reading_returns_what_was_written(case):
    q, n_bits, signed = case
    assert unpack_bits(pack_bits(q, n_bits), n_bits, len(q), signed).equal(q)


def test_hand_example_three_bits():
    """5 = 101, 1 = 001, 7 = 111: lowest bits first 101 100 111 -> byte 0 = 11001101b = 0xCD, byte 1 = 1."""
    assert pack_bits(torch.tensor([5, 1, 7]), 3).tolist() == [0b11001101, 0b1]
    assert unpack_bits(torch.tensor([0xCD, 1], dtype=torch.uint8), 3, 3, signed=False).tolist() == [5, 1, 7]
    assert unpack_bits(torch.tensor([0xCD, 1], dtype=torch.uint8), 3, 3, signed=True).tolist() == [-3, 1, -1]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64])
def test_every_integer_type_gives_the_same_bytes(dtype):
    q = torch.tensor([[-4, 3], [0, -1]])
    before = q.clone()
    assert pack_bits(q.to(dtype), 3).equal(pack_bits(q, 3)) and q.equal(before)


def test_a_single_code_and_a_million_codes():
    assert pack_bits(torch.tensor([0]), 2).tolist() == [0]
    q = torch.randint(0, 8, (1000, 1000))
    assert unpack_bits(pack_bits(q, 3), 3, q.numel(), signed=False).reshape(q.shape).equal(q)


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    with pytest.raises(TypeError, match="quantize first"):
        pack_bits(torch.tensor([0.5]), 2)
    with pytest.raises(ValueError, match=r"from -1 to 2; 2 bits hold \[0, 3\] or \[-2, 1\]"):
        pack_bits(torch.tensor([-1, 2]), 2)
    with pytest.raises(ValueError, match="from 0 to 4"):
        pack_bits(torch.tensor([0, 4]), 2)
    with pytest.raises(ValueError, match="from -3 to 0"):
        pack_bits(torch.tensor([0, -3]), 2)
    with pytest.raises(ValueError, match="from 1 to 8, got 9"):
        pack_bits(torch.tensor([0]), 9)
    with pytest.raises(ValueError, match="empty"):
        pack_bits(torch.tensor([], dtype=torch.int64), 2)
    packed = pack_bits(torch.tensor([1, 2, 3]), 3)
    with pytest.raises(ValueError, match="fill 3 bytes, got 2"):
        unpack_bits(packed, 3, 6, signed=False)
    with pytest.raises(ValueError, match="spare bits"):
        unpack_bits(packed | 128, 3, 3, signed=False)
    with pytest.raises(TypeError, match="uint8"):
        unpack_bits(packed.long(), 3, 3, signed=False)
    with pytest.raises(ValueError, match="count"):
        packed_size_bytes(-1, 3)
