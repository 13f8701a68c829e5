r"""Dense sections: every weight has its place, so no position is stored (section 3.2).

n weights in row-major order; rows = the first dimension (a vector is one row). All numbers little-endian.

    (1)  fp32    float32 as it is                                              4 n bytes
    (2)  fp16    rounded to half precision                                     2 n
    (3)  int8    s_r = max_row |w| / 127,   q = round(w / s_r)                 4 rows + n
    (4)  int4    s_g = max_group |w| / 7 in fp16, groups of 32 in a row,
                 q = clamp(round(w / s_g), -7, 7), two codes a byte            2 groups + ceil(n / 2)

What comes back is float32: (1) exactly, (3) and (4) as s q, within half a step. A row or group of zeros has the scale 0 and
returns zeros. The scale of int4 is rounded to fp16 before q is chosen, so that writer and reader multiply by the same number.

Left out: zero points. Production: GGUF's Q8_0 and Q4_0 are (3) and (4) with groups of 32 and fp16 scales.
"""

import numpy as np
import torch
from torch import Tensor

from course_lib.quantization.packing import pack_bits, packed_size_bytes, unpack_bits
from course_lib.storage._bytes import ByteReader
from course_lib.storage._layout import rows_of, to_tensor

GROUP_SIZE = 32


def _encode_fp32(W: np.ndarray) -> bytes:
    return W.astype("<f4").tobytes()


def _decode_fp32(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    return to_tensor(reader.array("<f4", int(np.prod(shape))), shape)


def _encode_fp16(W: np.ndarray) -> bytes:
    if np.abs(W).max() >= 65520:  # rounds to infinity from here on
        raise ValueError(f"encode_tensor: fp16 ends at 65504, the largest weight is {np.abs(W).max():g}")
    return W.astype("<f2").tobytes()


def _decode_fp16(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    return to_tensor(reader.array("<f2", int(np.prod(shape))), shape)


def _encode_int8(W: np.ndarray) -> bytes:
    rows = W.reshape(rows_of(W.shape))
    s = np.abs(rows).max(axis=1) / np.float32(127)  # (rows)
    q = np.rint(rows / np.where(s > 0, s, 1)[:, None]).clip(-127, 127)  # a subnormal s may round W / s beyond
    return s.astype("<f4").tobytes() + q.astype(np.int8).tobytes()


def _scales(s: np.ndarray) -> np.ndarray:
    """Scales that a writer can have written: the largest code times the scale is a float32."""
    if not (np.abs(s.astype(np.float64)) <= np.finfo(np.float32).max / 127 * (1 + 1e-6)).all():
        raise ValueError("a scale is NaN, infinite or absurd")
    return s.astype(np.float32)


def _decode_int8(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    rows, columns = rows_of(shape)
    s = _scales(reader.array("<f4", rows))
    return to_tensor(reader.array("i1", rows * columns).reshape(rows, columns) * s[:, None], shape)


def _groups(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(rows, groups a row, columns)."""
    rows, columns = rows_of(shape)
    return rows, -(-columns // GROUP_SIZE), columns


def _encode_int4(W: np.ndarray) -> bytes:
    rows, groups, columns = _groups(W.shape)
    padded = np.zeros((rows, groups * GROUP_SIZE), np.float32)
    padded[:, :columns] = W.reshape(rows, columns)
    padded = padded.reshape(rows, groups, GROUP_SIZE)
    largest = np.abs(padded).max(axis=2)  # (rows, groups)
    if largest.max() / 7 > 65504:
        raise ValueError(f"encode_tensor: the scales of int4 are fp16, too small for a weight of {largest.max():g}")
    s = (largest / np.float32(7)).astype("<f2")
    step = np.where(s > 0, s, 1).astype(np.float32)[..., None]
    q = np.rint(padded / step).clip(-7, 7)  # where the scale is 0, weights are below 2^-21 and their codes are 0 too
    q = q.reshape(rows, -1)[:, :columns].astype(np.int64)
    return s.tobytes() + pack_bits(torch.from_numpy(q), 4).numpy().tobytes()


def _decode_int4(reader: ByteReader, shape: tuple[int, ...]) -> Tensor:
    rows, groups, columns = _groups(shape)
    s = _scales(reader.array("<f2", rows * groups)).reshape(rows, groups)
    packed = torch.from_numpy(reader.array("u1", packed_size_bytes(rows * columns, 4)))
    q = unpack_bits(packed, 4, rows * columns, signed=True).numpy().reshape(rows, columns)
    return to_tensor(q * np.repeat(s, GROUP_SIZE, axis=1)[:, :columns], shape)
