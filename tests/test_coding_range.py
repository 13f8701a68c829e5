"""The range coder: size against the entropy and `constriction`, lanes against the plain loop, damage against refusal."""

import time

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.coding import (
    canonical_codes,
    entropy_bits,
    gamma_encode,
    huffman_decode,
    huffman_encode,
    huffman_lengths,
    quantize_frequencies,
    range_coder,
    range_decode,
    range_encode,
    range_size_bits,
    symbol_counts,
)
from tests.test_coding import count_lists, sparse_symbols, symbol_lists


@given(count_lists)
def test_frequencies_sum_to_the_model_and_keep_every_symbol(counts):
    f = quantize_frequencies(counts)
    assert f.gt(0).equal(counts > 0)
    assert int(f.sum()) == (2**16 if counts.any() else 0)
    if counts.any():
        ideal = entropy_bits(counts) * int(counts.sum())
        # a frequency off by up to K/2 of at least n_k/n 2^16 costs less than 2^-9 bit a symbol for these alphabets
        assert ideal - 1e-6 <= range_size_bits(counts, f) <= ideal + int(counts.sum()) * 2**-9


def test_frequencies_of_very_skewed_and_very_wide_alphabets():
    f = quantize_frequencies(torch.tensor([10**12, 1, 1, 0]))
    assert f.tolist() == [2**16 - 2, 1, 1, 0]
    # 1000 symbols of share 1.9 / 2^16 round up to 2, 100 too many: cheapest to take from the one large symbol
    f = quantize_frequencies(torch.tensor([19] * 1000 + [636_360]))
    assert f.tolist() == [2] * 1000 + [63_536]
    assert quantize_frequencies(torch.ones(2**16, dtype=torch.int64)).unique().tolist() == [1]
    wide = quantize_frequencies(torch.cat([torch.ones(60_000), torch.tensor([1e9])]).long())
    assert wide.sum() == 2**16 and wide.min() == 1
    with pytest.raises(ValueError, match="has room for 65536"):
        quantize_frequencies(torch.ones(2**16 + 1, dtype=torch.int64))


@given(symbol_lists)
def test_the_range_coder_returns_what_was_written(symbols):
    f = quantize_frequencies(symbol_counts(symbols, 7))
    assert range_decode(range_encode(symbols, f), f, len(symbols)).equal(symbols)


@pytest.mark.parametrize("n_lanes", [1, 2, 7, 64])
@pytest.mark.parametrize("n", [1, 6, 64, 1001])
def test_any_number_of_lanes_gives_the_same_symbols(n_lanes, n, monkeypatch):
    symbols = sparse_symbols(n, 0.3, 6)
    f = quantize_frequencies(symbol_counts(symbols, 7))
    monkeypatch.setattr(range_coder, "_n_lanes", lambda bits: n_lanes)
    assert range_decode(range_encode(symbols, f), f, n).equal(symbols)


def test_one_lane_in_numpy_is_the_plain_loop():
    """Literal, then fast, then equal: the same words, the same state."""
    symbols = sparse_symbols(500, 0.3, 6)
    f = quantize_frequencies(symbol_counts(symbols, 7)).numpy()
    start = np.cumsum(f) - f
    loop_state, loop_words = range_coder._push_one_lane(symbols.numpy(), f, start, 1)
    state, words = range_coder._push_lanes(symbols.numpy(), f, start, 1)
    assert state.tolist() == loop_state and words.tolist() == loop_words


def test_the_number_is_the_formula_with_unbounded_integers():
    """Without the stream of words, eq. (1) makes one integer; the coder's state and words are its digits to base 2^16... up to
    the point where the first word leaves: ten symbols of 1 bit never leave the interval."""
    f, x = torch.tensor([2**15, 2**15]), 1 << 24
    for k in [1, 0, 1, 1, 0, 0, 1, 0, 1, 1][::-1]:
        x = (x // 2**15 << 16) + k * 2**15 + x % 2**15
    data = range_encode(torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 1, 1]), f)
    assert int.from_bytes(data[2:7], "little") == x and len(data) == 7


@pytest.mark.parametrize(("density", "n_codes"), [(0.02, 8), (0.08, 31), (0.5, 255), (1.0, 4)])
def test_the_stream_is_within_two_percent_of_the_entropy_and_no_longer_than_constriction(density, n_codes):
    symbols = sparse_symbols(60_000, density, n_codes)
    counts = symbol_counts(symbols, n_codes + 1)
    f = quantize_frequencies(counts)
    data = range_encode(symbols, f)
    entropy_bytes = entropy_bits(counts) * 60_000 / 8
    assert entropy_bytes <= len(data) + len(gamma_encode(f)) <= 1.02 * entropy_bytes + 24
    lanes = int.from_bytes(data[:2], "little") + 1
    assert (
        abs(len(data) - (range_size_bits(counts, f) / 8 + 4 * lanes + 2)) <= lanes + 1
    )  # the last x carries 0 to 16 bits, 8 on average
    oracle = constriction.stream.queue.RangeEncoder()
    model = constriction.stream.model.Categorical(f.double().numpy() / 2**16, perfect=False)
    present = counts > 0
    if bool(present.all()):
        oracle.encode(symbols.numpy().astype(np.int32), model)
        assert len(data) <= 1.02 * 4 * len(oracle.get_compressed()) + 12


def test_a_whole_network_takes_a_second():
    """266,610 symbols of LeNet-300-100. Generous limit: the machine may be busy; about 0.3 s when idle."""
    symbols = sparse_symbols(266_610, 0.05, 15)
    f = quantize_frequencies(symbol_counts(symbols, 16))
    begin = time.process_time()
    assert range_decode(range_encode(symbols, f), f, len(symbols)).equal(symbols)
    lengths = huffman_lengths(symbol_counts(symbols, 16))
    assert huffman_decode(huffman_encode(symbols, lengths), lengths, len(symbols)).equal(symbols)
    assert time.process_time() - begin < 4


def test_one_symbol_costs_nothing_and_no_symbols_give_no_bytes():
    lone = torch.full((1000,), 2)
    f = quantize_frequencies(symbol_counts(lone, 4))
    assert f.tolist() == [0, 0, 2**16, 0] and len(range_encode(lone, f)) == 7
    assert range_decode(range_encode(lone, f), f, 1000).equal(lone)
    lengths = huffman_lengths(symbol_counts(lone, 4))
    assert huffman_decode(huffman_encode(lone, lengths), lengths, 1000).equal(lone)
    none = torch.zeros(0, dtype=torch.int64)
    f = quantize_frequencies(symbol_counts(none, 4))
    assert range_encode(none, f) == huffman_encode(none, huffman_lengths(torch.zeros(4, dtype=torch.int64))) == b""
    assert range_decode(b"", f, 0).numel() == huffman_decode(b"", torch.zeros(4, dtype=torch.int64), 0).numel() == 0
    assert huffman_lengths(none).numel() == quantize_frequencies(none).numel() == canonical_codes(none).numel() == 0


@given(symbol_lists.filter(lambda x: len(x) > 3), st.data())
def test_an_altered_range_coded_stream_is_refused_or_of_the_right_length(symbols, data):
    f = quantize_frequencies(symbol_counts(symbols, 7))
    stream = bytearray(range_encode(symbols, f))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert len(range_decode(bytes(stream), f, len(symbols))) == len(symbols)
    except ValueError as refusal:
        assert "range_decode" in str(refusal)


def test_a_stream_cut_short_or_grown_is_refused():
    symbols = sparse_symbols(2000, 0.4, 6)
    f, lengths = quantize_frequencies(symbol_counts(symbols, 7)), huffman_lengths(symbol_counts(symbols, 7))
    coded, words = range_encode(symbols, f), huffman_encode(symbols, lengths)
    for cut in (0, 1, 3, 7, len(coded) - 2, len(coded) - 1):
        with pytest.raises(ValueError, match="range_decode"):
            range_decode(coded[:cut], f, 2000)
    with pytest.raises(ValueError, match="does not end"):
        range_decode(coded + b"\0\0", f, 2000)
    with pytest.raises(ValueError, match="does not end"):
        range_decode(coded, f, 1999)
    for cut in (0, 1, len(words) - 1):
        with pytest.raises(ValueError, match="huffman_decode"):
            huffman_decode(words[:cut], lengths, 2000)
    with pytest.raises(ValueError, match="left over"):
        huffman_decode(words + b"\0", lengths, 2000)


def test_many_lanes_notice_the_end_too():
    symbols = sparse_symbols(80_000, 1.0, 30)
    f = quantize_frequencies(symbol_counts(symbols, 31))
    coded = range_encode(symbols, f)
    assert int.from_bytes(coded[:2], "little") + 1 >= 32
    with pytest.raises(ValueError, match="stream ends at symbol"):
        range_decode(coded[:-20], f, 80_000)
    with pytest.raises(ValueError, match="does not end"):
        range_decode(coded + b"\0\0", f, 80_000)


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    f = quantize_frequencies(torch.tensor([3, 1, 0]))
    for call, error, says in [
        (lambda: quantize_frequencies(torch.tensor([1, -2])), ValueError, "-2"),
        (lambda: range_encode(torch.tensor([2]), f), ValueError, "symbol 2 has frequency 0"),
        (lambda: range_encode(torch.tensor([0]), torch.tensor([3, 1])), ValueError, "the sum 4; use quantize_frequencies"),
        (lambda: range_size_bits(torch.tensor([1, 1, 1]), f), ValueError, "frequency of at least 1"),
        (lambda: range_decode(b"1", f, 0), ValueError, "for no symbols"),
        (lambda: range_decode(b"", f, -1), ValueError, "count"),
    ]:
        with pytest.raises(error, match=says):
            call()


def test_input_is_not_changed_and_twice_is_the_same():
    symbols = sparse_symbols(300, 0.5, 6)
    before = symbols.clone()
    f = quantize_frequencies(symbol_counts(symbols, 7))
    kept = f.clone()
    assert range_encode(symbols, f) == range_encode(symbols, f)
    assert symbols.equal(before) and f.equal(kept)
    assert range_encode(symbols.reshape(3, 100).int(), f) == range_encode(symbols, f)
