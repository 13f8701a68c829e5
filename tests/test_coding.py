"""Entropy, Huffman and small tables: optimality by brute force, sizes as predicted, `constriction` as oracle."""

import itertools
import math

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.coding import (
    canonical_codes,
    entropy_bits,
    gamma_decode,
    gamma_encode,
    huffman_decode,
    huffman_encode,
    huffman_lengths,
    huffman_size_bits,
    quantize_frequencies,
    range_decode,
    range_encode,
    range_size_bits,
    symbol_counts,
)

count_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=12).map(torch.tensor)
symbol_lists = st.lists(st.integers(0, 6), max_size=80).map(lambda x: torch.tensor(x, dtype=torch.int64))


def sparse_symbols(n, density, n_codes, seed=0):
    """A pruned layer: symbol 0 where pruned, geometric-like codes elsewhere."""
    rng = np.random.default_rng(seed)
    codes = 1 + np.minimum(rng.geometric(0.25, n) - 1, n_codes - 1)
    return torch.from_numpy(np.where(rng.random(n) < density, codes, 0))


# ---- entropy


@given(count_lists)
def test_entropy_is_the_sum_spelled_out(counts):
    n = counts.tolist()
    spelled = -math.fsum(c / sum(n) * math.log2(c / sum(n)) for c in n if c) if sum(n) else 0
    assert entropy_bits(counts) == pytest.approx(spelled, abs=1e-12)


def test_entropy_by_hand():
    assert entropy_bits(torch.tensor([2, 1, 1])) == 1.5
    assert entropy_bits(torch.tensor([0.25, 0.25, 0.25, 0.25])) == 2
    assert entropy_bits(torch.tensor([7])) == entropy_bits(torch.tensor([0, 0])) == 0
    assert entropy_bits(torch.tensor([], dtype=torch.int64)) == 0


def test_a_pruned_layer_splits_into_where_and_which():
    """Eq. (4): H = H2(d) + d H(codes of the kept), an identity of the chain rule; and Deep Compression's figure of 40."""
    counts = symbol_counts(sparse_symbols(10_000, 0.1, 15), 16)
    d = 1 - float(counts[0]) / 10_000
    where = entropy_bits(torch.tensor([1 - d, d], dtype=torch.float64))
    assert entropy_bits(counts) == pytest.approx(where + d * entropy_bits(counts[1:]), abs=1e-12)
    assert 32 / (entropy_bits(torch.tensor([0.92, 0.08], dtype=torch.float64)) + 0.08 * 5) == pytest.approx(40, abs=0.2)


# ---- Huffman


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_no_prefix_code_is_shorter(n):
    """Brute force over all lengths up to K-1 that satisfy Kraft's inequality (each is some prefix code's)."""
    lengths = huffman_lengths(torch.tensor(n)).tolist()
    best = min(
        sum(c * l for c, l in zip(n, trial))  # noqa: E741
        for trial in itertools.product(range(1, max(2, len(n))), repeat=len(n))
        if sum(2.0**-l for l in trial) <= 1  # noqa: E741
    )
    assert sum(c * l for c, l in zip(n, lengths)) == best  # noqa: E741


@given(count_lists)
def test_the_tree_is_full_and_within_one_bit_of_the_entropy(counts):
    lengths = huffman_lengths(counts)
    assert lengths.gt(0).equal(counts > 0)
    if (n_present := int((counts > 0).sum())) >= 2:
        assert sum(2.0**-l for l in lengths.tolist() if l) == 1  # noqa: E741
        mean = huffman_size_bits(counts, lengths) / int(counts.sum())
        assert entropy_bits(counts) - 1e-9 <= mean < entropy_bits(counts) + 1
    elif n_present == 1:
        assert lengths.max() == 1


def test_canonical_words_by_hand():
    """The example of RFC 1951, section 3.2.2: lengths (3,3,3,3,3,2,4,4) give 010 011 100 101 110 00 1110 1111."""
    words = canonical_codes(torch.tensor([3, 3, 3, 3, 3, 2, 4, 4]))
    assert words.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


def test_huffman_by_hand():
    """Counts 4, 2, 1, 1: words 0, 10, 110, 111. The list 0 1 3 0 is 0 10 111 0 = 0101 110(0) = 0x5C."""
    lengths = huffman_lengths(torch.tensor([4, 2, 1, 1]))
    assert lengths.tolist() == [1, 2, 3, 3]
    assert huffman_encode(torch.tensor([0, 1, 3, 0]), lengths) == b"\x5c"
    assert huffman_decode(b"\x5c", lengths, 4).tolist() == [0, 1, 3, 0]


@given(symbol_lists)
def test_huffman_returns_what_was_written_in_the_bits_predicted(symbols):
    counts = symbol_counts(symbols, 7)
    lengths = huffman_lengths(counts)
    data = huffman_encode(symbols, lengths)
    assert huffman_decode(data, lengths, len(symbols)).equal(symbols)
    assert len(data) == math.ceil(huffman_size_bits(counts, lengths) / 8)
    words = [f"{w:0{l}b}" for w, l in zip(canonical_codes(lengths).tolist(), lengths.tolist())]  # noqa: E741
    text = "".join(words[k] for k in symbols.tolist())
    assert "".join(f"{b:08b}" for b in data) == text + "0" * (-len(text) % 8)


def test_constriction_builds_a_huffman_code_of_the_same_length():
    counts = torch.tensor([50, 20, 20, 5, 3, 1, 1])
    tree = constriction.symbol.huffman.EncoderHuffmanTree(counts.double().numpy() / 100)
    coder = constriction.symbol.QueueEncoder()
    for k, n in enumerate(counts.tolist()):
        for _ in range(n):
            coder.encode_symbol(k, tree)
    assert huffman_size_bits(counts, huffman_lengths(counts)) == coder.get_compressed()[1]


def test_words_as_long_as_fibonacci_counts_make_them():
    """Fibonacci counts give the deepest tree: K-1 bits. 57 still work, 58 are refused."""
    fibonacci = [1, 1]
    while len(fibonacci) < 59:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = huffman_lengths(torch.tensor(fibonacci[:58]))
    assert lengths.max() == 57
    symbols = torch.arange(58).repeat(3)
    assert huffman_decode(huffman_encode(symbols, lengths), lengths, len(symbols)).equal(symbols)
    with pytest.raises(ValueError, match="58 bits is beyond"):
        huffman_lengths(torch.tensor(fibonacci))


@given(symbol_lists.filter(lambda x: len(x) > 3), st.data())
def test_an_altered_huffman_stream_never_ends_in_another_error(symbols, data):
    """Without a checksum an altered bit may be a valid other message; it must be that or a ValueError, of the right length."""
    lengths = huffman_lengths(symbol_counts(symbols, 7))
    stream = bytearray(huffman_encode(symbols, lengths))
    stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert len(huffman_decode(bytes(stream), lengths, len(symbols))) == len(symbols)
    except ValueError as refusal:
        assert "huffman_decode" in str(refusal)


def test_a_huffman_stream_with_bytes_left_over_is_refused():
    lengths = huffman_lengths(torch.tensor([4, 2, 1, 1]))
    for stream in (b"\x5c\x00", b"\x5d"):
        with pytest.raises(ValueError, match="left over"):
            huffman_decode(stream, lengths, 4)


# ---- small tables


@given(count_lists)
def test_tables_travel_in_gamma_codes(counts):
    """2 floor(log2(f + 1)) + 1 bits an entry, and what follows the model is left alone."""
    f = quantize_frequencies(counts)
    data = gamma_encode(f)
    assert len(data) == math.ceil(sum(2 * int(math.log2(v + 1)) + 1 for v in f.tolist()) / 8)
    back, n_bytes = gamma_decode(data + b"\xff\x00", len(f))
    assert back.equal(f) and n_bytes == len(data)


def test_a_list_that_fills_its_bytes_takes_no_more():
    assert gamma_encode(torch.zeros(8, dtype=torch.int64)) == b"\xff"
    values, n_bytes = gamma_decode(b"\xff\xff", 8)
    assert values.tolist() == [0] * 8 and n_bytes == 1


def test_a_gamma_code_by_hand():
    """f = 65535, 1, 0: v = 65536 = 17 digits after 16 zeros, v = 2 is 010, v = 1 is 1: 37 bits, 5 bytes."""
    data = gamma_encode(torch.tensor([65535, 1, 0]))
    assert f"{int.from_bytes(data, 'big'):040b}" == "0" * 16 + "1" + "0" * 16 + "010" + "1" + "000"


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    lengths = huffman_lengths(torch.tensor([3, 1, 0]))
    for call, error, says in [
        (lambda: entropy_bits(torch.tensor([1, -1])), ValueError, "the smallest is -1"),
        (lambda: symbol_counts(torch.tensor([0, 4]), 4), ValueError, "from 0 to 4, the alphabet from 0 to 3"),
        (lambda: symbol_counts(torch.tensor([0.5]), 4), TypeError, "integers"),
        (lambda: huffman_lengths(torch.tensor([1, -2])), ValueError, "-2"),
        (lambda: canonical_codes(torch.tensor([1, 1, 1])), ValueError, "Kraft"),
        (lambda: canonical_codes(torch.tensor([58])), ValueError, "0 ... 57"),
        (lambda: huffman_encode(torch.tensor([2]), lengths), ValueError, "symbol 2 has no code word"),
        (lambda: huffman_encode(torch.tensor([3]), lengths), ValueError, "alphabet from 0 to 2"),
        (lambda: huffman_encode(torch.tensor([1.0]), lengths), TypeError, "integers"),
        (lambda: huffman_size_bits(torch.tensor([1, 1, 1]), lengths), ValueError, "needs a code word"),
        (lambda: gamma_decode(b"\x48", 1), ValueError, "filling is not zero"),
        (lambda: gamma_decode(b"\x00", 3), ValueError, "inside a number"),
        (lambda: gamma_decode(b"\x00\x00\x00\x00\x00\x01" + b"\xff" * 9, 1), ValueError, "exceeds"),
        (lambda: gamma_decode(b"", 3), ValueError, "cannot hold"),
        (lambda: gamma_encode(torch.tensor([-1])), ValueError, ">= 0"),
        (lambda: gamma_encode(torch.tensor([True])), TypeError, "values must be a tensor of integers, got torch.bool"),
        (lambda: entropy_bits(torch.tensor([0.5, float("nan")])), ValueError, "1 NaN"),
        (lambda: huffman_size_bits(torch.tensor([1, 1, -1]), lengths), ValueError, "counts must be >= 0, the smallest is -1"),
        (lambda: huffman_size_bits(torch.tensor([1, 1, 1]), -lengths), ValueError, "lengths must be >= 0"),
        (lambda: huffman_size_bits(torch.tensor([1, 1]), lengths), ValueError, "2 counts, but 3 lengths"),
    ]:
        with pytest.raises(error, match=says):
            call()


DOORS = {  # each takes one list of whole numbers
    "huffman_lengths": huffman_lengths,
    "canonical_codes": canonical_codes,
    "gamma_encode": gamma_encode,
    "quantize_frequencies": quantize_frequencies,
    "huffman_size_bits": lambda x: huffman_size_bits(x, torch.tensor([1, 2, 2])),
    "huffman_size_bits: lengths": lambda x: huffman_size_bits(torch.tensor([1, 2, 2]), x),
    "range_size_bits": lambda x: range_size_bits(x, torch.tensor([2**15, 2**14, 2**14])),
    "range_size_bits: frequencies": lambda x: range_size_bits(torch.tensor([1, 2, 2]), x),
    "huffman_encode": lambda x: huffman_encode(torch.tensor([0]), x),
    "huffman_decode": lambda x: huffman_decode(b"", x, 1),
    "range_encode": lambda x: range_encode(torch.tensor([0]), x),
    "range_decode": lambda x: range_decode(b"", x, 1),
}


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("door", DOORS)
def test_every_door_refuses_what_is_no_list_of_whole_numbers(door):
    """A fraction would be rounded to 0 occurrences in silence, and NaN passes any comparison; lists have no dtype to judge."""
    for x in ([1, 2, 2], torch.tensor([float("nan"), 1, 2]), torch.tensor([0.5, 0.25, 0.25]), torch.tensor([True, True, True])):
        with pytest.raises(TypeError, match=f"{door}.*must be a tensor of integers, got (list|torch.float32|torch.bool)"):
            DOORS[door](x)
    with pytest.raises(ValueError, match=f"{door}.*must have 1 dimension"):
        DOORS[door](torch.ones(3, 3, dtype=torch.int64))


@pytest.mark.usefixtures("as_a_user")
def test_entropy_takes_shares_but_no_list_and_no_table():
    assert entropy_bits(torch.tensor([0.5, 0.5])) == 1.0 and entropy_bits(torch.tensor([])) == 0.0
    with pytest.raises(TypeError, match="got list"):
        entropy_bits([0.5, 0.5])
    with pytest.raises(ValueError, match="1 dimension"):
        entropy_bits(torch.ones(2, 2))
