r"""Sections for shared weights: a short table of values, and coded pointers into it (sections 3.2 and 4).

A tensor of n entries with K distinct values v_0 < ... < v_{K-1} (zero among them, if pruned) is a table and n codes.

    (1)  table      K as a varint, one byte "halved", K values           K * (4, or 2 where fp16 holds every value exactly)
    (2)  packed     table, codes of b = ceil(log2 K) bits                ceil(n b / 8)
    (3)  huffman    table, lengths in gamma code, words                  ceil(sum_k n_k l_k / 8)
    (4)  range      table, frequencies in gamma code, stream             about n H / 8 + 6
    (5)  han4,      non-zeros and fillers of the relative index with     Deep Compression's format: "huffman" for the gaps and
         han8       gaps of 4 or 8 bits                                  for the values, each with its own table

Huffman spends at least a bit on each weight, so with 95 % zeros (3) cannot shrink below n / 8 bytes. (5) avoids that by coding
distances; (4) has no such floor and needs no distances. All are lossless, except that -0 comes back as 0.
Integer tensors work as well: their table keeps their type.

Left out: one table for several tensors. Production: coremltools stores (2).
"""

import math

import numpy as np
import torch
from torch import Tensor

from course_lib.coding import (
    gamma_decode,
    gamma_encode,
    huffman_decode,
    huffman_encode,
    huffman_lengths,
    quantize_frequencies,
    range_decode,
    range_encode,
    symbol_counts,
)
from course_lib.quantization.packing import pack_bits, packed_size_bytes, unpack_bits
from course_lib.storage._bytes import ByteReader, varint
from course_lib.storage.sparse import _place_entries, _relative_entries

MAX_VALUES = 1 << 16


def _table_and_codes(X: np.ndarray) -> tuple[bytes, Tensor, int]:
    """Eq. (1): the table's bytes, one code an entry, and K."""
    values, codes = np.unique(X.ravel() + np.zeros((), X.dtype), return_inverse=True)  # + 0 turns -0 into 0
    if len(values) > MAX_VALUES:
        raise ValueError(f"encode_tensor: {len(values)} distinct values; a codebook holds {MAX_VALUES}: share weights first")
    halved = X.dtype == np.float32 and bool((np.abs(values) < 65504).all()) and bool((values.astype("<f2") == values).all())
    table = values.astype("<f2") if halved else values
    return varint(len(values)) + bytes([halved]) + table.tobytes(), torch.from_numpy(codes.reshape(-1)), len(values)


def _read_table(reader: ByteReader, dtype: str) -> np.ndarray:
    n_values, halved = reader.varint(), reader.take(1)[0]
    if halved > 1 or not 0 < n_values <= MAX_VALUES or (halved and dtype != "<f4"):
        raise ValueError("codebook: the table's first bytes make no sense")
    return reader.array("<f2" if halved else dtype, n_values).astype(dtype)


def _encode_packed(X: np.ndarray) -> bytes:
    table, codes, n_values = _table_and_codes(X)
    if n_values > 256:
        raise ValueError(f"encode_tensor: {n_values} distinct values; packed codes have at most 8 bits, 256 values")
    return table + pack_bits(codes, _packed_width(n_values)).numpy().tobytes()


def _packed_width(n_values: int) -> int:
    """Bits a code: ceil(log2 K), at least 1."""
    return max(1, math.ceil(math.log2(n_values)))


def _decode_packed(reader: ByteReader, shape: tuple[int, ...], dtype: str) -> Tensor:
    table, n = _read_table(reader, dtype), math.prod(shape)
    if len(table) > 256:
        raise ValueError("packed: more than 256 values")
    packed = torch.from_numpy(reader.array("u1", packed_size_bytes(n, _packed_width(len(table)))))
    return _look_up(table, unpack_bits(packed, _packed_width(len(table)), n, signed=False), shape)


def _look_up(table: np.ndarray, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
    if codes.numel() and int(codes.max()) >= len(table):
        raise ValueError(f"codebook: code {int(codes.max())} points beyond {len(table)} values")
    return torch.from_numpy(table[codes.numpy()].reshape(shape))


def _huffman_bytes(codes: Tensor, n_codes: int) -> bytes:
    """Lengths in gamma code, then the words."""
    lengths = huffman_lengths(symbol_counts(codes, n_codes))
    return gamma_encode(lengths) + huffman_encode(codes, lengths)


def _read_huffman(data: bytes, n_codes: int, count: int) -> Tensor:
    lengths, n_bytes = gamma_decode(data, n_codes)
    return huffman_decode(data[n_bytes:], lengths, count)


def _encode_huffman(X: np.ndarray) -> bytes:
    table, codes, n_values = _table_and_codes(X)
    return table + _huffman_bytes(codes, n_values)


def _decode_huffman(reader: ByteReader, shape: tuple[int, ...], dtype: str) -> Tensor:
    table = _read_table(reader, dtype)
    return _look_up(table, _read_huffman(reader.rest(), len(table), math.prod(shape)), shape)


def _encode_range(X: np.ndarray) -> bytes:
    table, codes, n_values = _table_and_codes(X)
    frequencies = quantize_frequencies(symbol_counts(codes, n_values))
    return table + gamma_encode(frequencies) + range_encode(codes, frequencies)


def _decode_range(reader: ByteReader, shape: tuple[int, ...], dtype: str) -> Tensor:
    table, data = _read_table(reader, dtype), reader.rest()
    frequencies, n_bytes = gamma_decode(data, len(table))
    return _look_up(table, range_decode(data[n_bytes:], frequencies, math.prod(shape)), shape)


def _encode_han(X: np.ndarray, n_bits: int) -> bytes:
    gaps, values = _relative_entries(X, n_bits)
    if len(gaps) == 0:
        return varint(0)
    table, codes, n_values = _table_and_codes(values)
    coded_gaps = _huffman_bytes(torch.from_numpy(gaps), 1 << n_bits)
    return varint(len(gaps)) + table + varint(len(coded_gaps)) + coded_gaps + _huffman_bytes(codes, n_values)


def _decode_han(reader: ByteReader, shape: tuple[int, ...], dtype: str, n_bits: int) -> Tensor:
    n_entries, n = reader.varint(), math.prod(shape)
    if n_entries > n:
        raise ValueError(f"han: {n_entries} entries for {n} weights")
    if n_entries == 0:
        return torch.from_numpy(np.zeros(shape, dtype))
    table = _read_table(reader, dtype)
    gaps = _read_huffman(reader.take(reader.varint()), 1 << n_bits, n_entries)
    codes = _read_huffman(reader.rest(), len(table), n_entries)
    values = _look_up(table, codes, (n_entries,)).numpy()
    return torch.from_numpy(_place_entries(gaps.numpy(), values, n).reshape(shape))
