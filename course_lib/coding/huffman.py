r"""Canonical Huffman codes: the best code that spends whole bits on every symbol (section 4).

Huffman joins the two rarest symbols into one, again and again; the depth of a symbol in the resulting tree is the length of
its code word. The lengths are all a decoder needs, if both sides agree how to number words of equal length: "canonical" means
in the order of (length, symbol), each word the previous one plus one, shifted left when the length grows.

    (1)  sum_k 2^(-l_k)  =  1                                    Kraft: the tree is full (for 2 or more symbols)
    (2)  H(p)  <=  sum_k p_k l_k  <  H(p) + 1                    within one bit a symbol of the entropy
    (3)  word_0 = 0,  word_{j+1} = (word_j + 1) << (l_{j+1} - l_j)      symbols sorted by (length, symbol)
    (4)  size_bits = sum_k n_k l_k

The "+ 1" in (2) hurts exactly where compression is strong: a layer with 95 % zeros has an entropy near 0.3 bit, and Huffman
still spends one whole bit on each zero. Hence Han et al. store distances between non-zeros, or one takes a range coder.

Bits are written most significant first, word after word; the last byte is filled with zeros. A lone symbol gets a word of
one bit. Decoding uses (3): with all words left-justified in a window of 57 bits, the word at a position is found by one
binary search, for every bit position of the stream at once; what remains is hopping from word to word.

Left out: length limits. Production (zlib, zstd) caps lengths at 11 to 15 bits so that one small table decodes them.
"""

import heapq

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from course_lib._check import check_count
from course_lib.coding.entropy import _check_counts, _check_integers, _check_symbols

MAX_LENGTH = 57  # a word and up to 7 bits before it fit 64 bits; longer ones need more than 10^11 symbols


def huffman_lengths(counts: Integer[Tensor, "n_symbols"]) -> Int64[Tensor, "n_symbols"]:
    r"""Length of each symbol's code word, in bits; 0 for a symbol that never occurs.

    $$ \min_{l} \sum_k n_k \, l_k \quad\text{subject to}\quad \sum_{k : n_k > 0} 2^{-l_k} \le 1 $$

    counts: how often each symbol occurs.  Ties are broken by the smallest symbol, so the result is reproducible.
    Raises TypeError for what is no tensor of integers, ValueError for counts that are negative, not one-dimensional, or so
    skewed that a word would exceed 57 bits.
    Source: Huffman 1952.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("huffman_lengths", "counts", counts)
    n = counts.tolist()
    heap = [(c, k, k) for k, c in enumerate(n) if c > 0]  # (count, smallest symbol below, node)
    lengths = [int(len(heap) == 1 and c > 0) for c in n]  # a lone symbol: one bit; otherwise filled in below
    heapq.heapify(heap)
    joined = []  # (parent, child, child) from the leaves up; nodes from K on are inner ones
    while len(heap) > 1:
        (count_a, key_a, a), (count_b, key_b, b) = heapq.heappop(heap), heapq.heappop(heap)
        joined.append((len(n) + len(joined), a, b))
        heapq.heappush(heap, (count_a + count_b, min(key_a, key_b), joined[-1][0]))
    depth = {len(n) + len(joined) - 1: 0}  # the root was made last
    for parent, a, b in reversed(joined):
        depth[a] = depth[b] = depth[parent] + 1
    lengths = [depth.get(k, length) for k, length in enumerate(lengths)] if joined else lengths
    if max(lengths, default=0) > MAX_LENGTH:
        raise ValueError(f"huffman_lengths: a word of {max(lengths)} bits is beyond the {MAX_LENGTH} that the decoder reads")
    return torch.tensor(lengths, dtype=torch.int64)


def canonical_codes(lengths: Integer[Tensor, "n_symbols"]) -> Int64[Tensor, "n_symbols"]:
    r"""Code words from their lengths alone, eq. (3); 0 where the length is 0 (no word).

    $$ \mathrm{word}_0 = 0, \qquad \mathrm{word}_{j+1} = (\mathrm{word}_j + 1) \cdot 2^{\,l_{j+1} - l_j}
       \quad\text{in the order of } (l, k) $$

    Raises TypeError for what is no tensor of integers, ValueError for lengths outside 0 ... 57, in another rank than 1, or that
    break Kraft's inequality: no prefix code has them.
    Source: Schwartz and Kallick 1964; RFC 1951, section 3.2.2.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_lengths("canonical_codes", lengths)
    rows = lengths.tolist()
    if rows and not 0 <= min(rows) <= max(rows) <= MAX_LENGTH:
        raise ValueError(f"canonical_codes: lengths must lie in 0 ... {MAX_LENGTH}, got {min(rows)} to {max(rows)}")
    if sum(1 << (MAX_LENGTH - length) for length in rows if length) > 1 << MAX_LENGTH:
        raise ValueError("canonical_codes: the lengths break Kraft's inequality, so no prefix code has them")
    codes, word, before = [0] * len(rows), 0, 0
    for length, k in sorted((length, k) for k, length in enumerate(rows) if length):
        word <<= length - before
        codes[k] = word
        word, before = word + 1, length
    return torch.tensor(codes, dtype=torch.int64)


def huffman_size_bits(counts: Integer[Tensor, "n_symbols"], lengths: Integer[Tensor, "n_symbols"]) -> int:
    r"""Bits of the coded symbols, before the last byte is filled up, eq. (4).

    $$ \mathrm{size\_bits} = \sum_k n_k \, l_k $$

    Raises TypeError for what are no tensors of integers, ValueError for negative entries, another rank than 1, two lists that
    differ in length, or where a symbol that occurs has no word.
    Source: Huffman 1952.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("huffman_size_bits", "counts", counts)
    _check_counts("huffman_size_bits", "lengths", lengths)
    if counts.shape != lengths.shape:
        raise ValueError(f"huffman_size_bits: {len(counts)} counts, but {len(lengths)} lengths; both are one entry a symbol")
    if bool(((counts > 0) & (lengths == 0)).any()):
        raise ValueError("huffman_size_bits: every symbol that occurs needs a code word")
    return int((counts.long() * lengths.long()).sum())


def huffman_encode(symbols: Integer[Tensor, "*shape"], lengths: Integer[Tensor, "n_symbols"]) -> bytes:
    r"""Write the words of the symbols one after another, most significant bit first.

    $$ \mathrm{stream} = \mathrm{word}_{x_1} \,\|\, \mathrm{word}_{x_2} \,\|\, \dots $$

    symbols: any shape, read in row-major order; may be empty.  lengths: from `huffman_lengths`.
    Returns ceil(size_bits / 8) bytes.
    Raises TypeError for floats, ValueError for symbols out of range or without a word.
    Source: Huffman 1952.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_lengths("huffman_encode", lengths)
    _check_symbols("huffman_encode", symbols, lengths.numel())
    x = symbols.flatten().long().numpy()
    length = lengths.long().numpy()[x]
    if (length == 0).any():
        raise ValueError(f"huffman_encode: symbol {x[length == 0][0]} has no code word; its count was 0")
    word = np.repeat(canonical_codes(lengths).numpy()[x], length)  # one entry a bit
    place = np.repeat(np.cumsum(length), length) - 1 - np.arange(length.sum())  # bits still to come in this word
    return np.packbits((word >> place & 1).astype(np.uint8)).tobytes()


def huffman_decode(data: bytes, lengths: Integer[Tensor, "n_symbols"], count: int) -> Int64[Tensor, "count"]:
    r"""Read `count` symbols back: the inverse of `huffman_encode`.

    $$ x_i = \max\{\,k : \mathrm{word}_k 2^{57 - l_k} \le \mathrm{window}(b_i)\,\}, \qquad b_{i+1} = b_i + l_{x_i} $$

    in the canonical order, where window(b) holds the 57 bits from position b on.
    Raises ValueError where the stream is too short, too long, matches no word, or its last bits are not zero.
    Source: Moffat and Turpin 1997.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_lengths("huffman_decode", lengths)
    check_count("huffman_decode", "count", count, low=0)
    codes, length = canonical_codes(lengths).numpy(), lengths.long().numpy()
    present = np.flatnonzero(length)
    if count and (8 * len(data) < count or not len(present)):
        raise ValueError(f"huffman_decode: {len(data)} bytes cannot hold {count} symbols")
    order = present[np.lexsort((present, length[present]))]
    first = codes[order] << (MAX_LENGTH - length[order])  # ascending, by construction
    padded = np.frombuffer(data + bytes(8), np.uint8).astype(np.uint64)
    eight = np.zeros(len(data), np.uint64)  # the 64 bits from each byte on
    for k in range(8):
        eight = eight << np.uint64(8) | padded[k : k + len(data)]
    window = ((eight[:, None] << np.arange(8, dtype=np.uint64)) >> np.uint64(64 - MAX_LENGTH)).ravel().astype(np.int64)
    found = np.searchsorted(first, window, side="right") - 1  # (8 bytes)
    beyond = window - first[found] >> (MAX_LENGTH - length[order][found]) > 0  # only a lone symbol leaves words unused
    jump = np.where(beyond, 0, length[order][found]).tolist()
    at, position = [0] * count, 0
    for i in range(count):
        if position >= len(jump) or jump[position] == 0:
            raise ValueError(f"huffman_decode: the stream ends or matches no word at symbol {i} of {count}")
        at[i] = position
        position += jump[position]
    if -(-position // 8) != len(data) or (position % 8 and data[-1] & (255 >> position % 8)):
        raise ValueError("huffman_decode: bytes or bits are left over; wrong count, or altered bytes")
    return torch.from_numpy(order[found[at]] if count else np.zeros(0, np.int64))


def _check_lengths(who: str, lengths: Tensor) -> None:
    """Rank and kind only: `canonical_codes` judges the values."""
    _check_integers(who, "lengths", lengths)
    if lengths.ndim != 1:
        raise ValueError(f"{who}: lengths must have 1 dimension, one entry a symbol, got shape {tuple(lengths.shape)}")
