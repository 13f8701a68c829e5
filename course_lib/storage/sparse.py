r"""Sparse sections: only what is not zero, and where it stands (section 3.1).

n weights in row-major order, m = d n of them not zero; values are float32. All numbers little-endian.

    (1)  csr          where each row starts, column of each value        4 (rows + 1) + (2 or 4) m + 4 m bytes
    (2)  bitmask      one bit a weight                                   ceil(n / 8) + 4 m
    (3)  relative4,   zeros skipped before each value, b = 4 or 8        4 + ceil(b e / 8) + 4 e
         relative8    bits; a gap of 2^b or more takes filler zeros      with e = m + fillers

(2) costs 1/d bits a value, (1) 16, (3) b and its fillers: the mask is the smallest of the three only while d is large. In (3) a
filler is an entry like any other (Han et al., figure 2): gap 2^b - 1, value 0. If zeros fall independently, a value needs

    (4)  E[fillers]  =  sum_{k >= 1} P(gap >= k 2^b)  =  r / (1 - r),      r = (1 - d)^(2^b)

All return the tensor exactly, except that -0 comes back as 0. Columns take 2 bytes up to 65,536 of them.

Left out: blocks (BSR), N:M metadata. Production: cuSPARSE and scipy read (1) with 4-byte columns.
"""

import numpy as np
import torch
from torch import Tensor

from course_lib.quantization.packing import pack_bits, packed_size_bytes, unpack_bits
from course_lib.storage._bytes import ByteReader
from course_lib.storage._layout import rows_of, to_tensor


def _encode_csr(W: np.ndarray) -> bytes:
    rows = W.reshape(rows_of(W.shape))
    r, column = np.nonzero(rows)
    start = np.concatenate([[0], np.bincount(r, minlength=len(rows)).cumsum()])  # (rows + 1)
    return start.astype("<u4").tobytes() + column.astype(_column_type(rows.shape[1])).tobytes() + rows[r, column].tobytes()


def _column_type(columns: int) -> str:
    return "<u2" if columns <= 1 << 16 else "<u4"


def _decode_csr(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    rows, columns = rows_of(shape)
    start = reader.array("<u4", rows + 1).astype(np.int64)
    column = reader.array(_column_type(columns), max(0, int(start[-1]))).astype(np.int64)
    values = reader.array("<f4", len(column))
    if start[0] or (np.diff(start) < 0).any() or (column >= columns).any():
        raise ValueError("csr: row starts or columns are out of order")
    out = np.zeros((rows, columns), np.float32)
    out[np.repeat(np.arange(rows), np.diff(start)), column] = values
    return to_tensor(out, shape)


def _encode_bitmask(W: np.ndarray) -> bytes:
    mask = W.ravel() != 0
    return np.packbits(mask, bitorder="little").tobytes() + W.ravel()[mask].tobytes()


def _decode_bitmask(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    n = int(np.prod(shape))
    bits = np.unpackbits(reader.array("u1", -(-n // 8)), bitorder="little")
    if bits[n:].any():
        raise ValueError("bitmask: the spare bits of the last byte are not zero")
    out = np.zeros(n, np.float32)
    mask = bits[:n].astype(bool)
    out[mask] = reader.array("<f4", int(mask.sum()))
    return to_tensor(out, shape)


def _relative_entries(W: np.ndarray, n_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaps and values of the relative index, eq. (3): floor(gap / 2^b) filler zeros before an entry that lies far off."""
    flat = W.ravel()
    position = np.flatnonzero(flat)
    gap = np.diff(position, prepend=-1) - 1
    fillers = gap >> n_bits
    at = np.cumsum(fillers + 1) - 1  # where the real entries come to stand
    gaps = np.full(int(at[-1]) + 1 if len(at) else 0, (1 << n_bits) - 1, np.int64)
    values = np.zeros(len(gaps), flat.dtype)
    gaps[at], values[at] = gap & ((1 << n_bits) - 1), flat[position]
    return gaps, values


def _place_entries(gaps: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """The inverse: entry e stands at sum_{j <= e} (gap_j + 1) - 1."""
    position = np.cumsum(gaps + 1) - 1
    if len(position) and position[-1] >= n:
        raise ValueError(f"relative index: the last entry stands at {position[-1]}, beyond {n} weights")
    out = np.zeros(n, values.dtype)
    out[position] = values
    return out


def _encode_relative(W: np.ndarray, n_bits: int) -> bytes:
    gaps, values = _relative_entries(W, n_bits)
    packed = pack_bits(torch.from_numpy(gaps), n_bits).numpy().tobytes() if len(gaps) else b""
    return len(gaps).to_bytes(4, "little") + packed + values.tobytes()


def _decode_relative(reader: ByteReader, shape: tuple[int, ...], n_bits: int) -> Tensor:
    n_entries = int.from_bytes(reader.take(4), "little")
    packed = torch.from_numpy(reader.array("u1", packed_size_bytes(n_entries, n_bits)))
    gaps = unpack_bits(packed, n_bits, n_entries, signed=False).numpy() if n_entries else np.zeros(0, np.int64)
    return to_tensor(_place_entries(gaps, reader.array("<f4", n_entries), int(np.prod(shape))), shape)
