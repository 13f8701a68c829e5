r"""Codes of 1 to 8 bits, side by side, with no bit left empty (section 3.2).

A quantizer that says "3 bits" but keeps its codes in bytes has saved nothing beyond int8. The bits must touch. A code is
first cut to its lowest n_bits bits (two's complement, so that negative codes have a place too), and the stream of bits is
laid down least significant first, code after code, byte after byte:

    (1)  u_i        =  q_i mod 2^n_bits                          the bits of code i as an unsigned number
    (2)  stream     =  sum_i u_i * 2^(i * n_bits)                one large integer: little-endian, as in DEFLATE
    (3)  byte_j     =  floor(stream / 2^(8 j)) mod 256
    (4)  size_bytes =  ceil(count * n_bits / 8)

and reading turns (1) round: with `signed`, a code whose top bit is set stands for u - 2^n_bits. The spare bits of the last
byte (fewer than 8) are zero; `unpack_bits` refuses a stream in which they are not, since such a stream was not written here.

Left out: layouts made for one processor. Production kernels (llama.cpp's Q4_0, Marlin, torchao's `TensorCoreTiledLayout`)
permute the codes so that one load feeds one instruction; 3 bits are then often split into a 2-bit and a 1-bit plane. The count
of bytes is the same.
"""

import torch
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from course_lib._check import check_count, check_n_bits, check_tensor


def packed_size_bytes(count: int, n_bits: int) -> int:
    r"""Bytes that `count` codes of `n_bits` bits fill, eq. (4).

    $$ \mathrm{size\_bytes} = \left\lceil \tfrac{\mathrm{count} \cdot \mathrm{n\_bits}}{8} \right\rceil $$

    Raises ValueError for a negative count or n_bits outside 1 to 8.
    Source: counting.  Notebook: 03_2_quantization.
    """
    check_count("packed_size_bytes", "count", count, low=0)
    check_n_bits("packed_size_bytes", n_bits, low=1)
    return -(-count * n_bits // 8)


def pack_bits(q: Integer[Tensor, "*shape"], n_bits: int) -> UInt8[Tensor, "n_bytes"]:
    r"""Lay codes of `n_bits` bits side by side, first code in the lowest bits of the first byte, eq. (1) to (3).

    $$ \sum_j \mathrm{byte}_j \, 2^{8j} \;=\; \sum_i \,(q_i \bmod 2^{n})\, 2^{\,n i}, \qquad n = \mathrm{n\_bits} $$

    q: integer codes, any shape, read in row-major order; all in [0, 2^n) or all in [-2^(n-1), 2^(n-1)).
    Returns ceil(count n / 8) bytes.
    Raises TypeError for floats, ValueError for an empty tensor, codes out of both ranges, or n_bits outside 1 to 8.
    Source: the bit order of DEFLATE (RFC 1951, section 3.1.1).  Notebook: 03_2_quantization.
    """
    check_tensor("pack_bits", "q", q)
    check_n_bits("pack_bits", n_bits, low=1)
    if q.is_floating_point() or q.is_complex() or q.dtype == torch.bool:
        raise TypeError(f"pack_bits: q must hold integer codes, got {q.dtype}; quantize first")
    low, high = int(q.min()), int(q.max())
    if high >= 2**n_bits or (low < 0 and (low < -(2 ** (n_bits - 1)) or high >= 2 ** (n_bits - 1))):
        signed = f"[{-(2 ** (n_bits - 1))}, {2 ** (n_bits - 1) - 1}]"
        raise ValueError(f"pack_bits: codes run from {low} to {high}; {n_bits} bits hold [0, {2**n_bits - 1}] or {signed}")
    u = (q.flatten() % 2**n_bits).to(torch.uint8)  # torch's % takes the sign of the divisor: two's complement for free
    bits = (u[:, None] >> torch.arange(n_bits, dtype=torch.uint8)) & 1  # (count, n_bits), lowest bit first
    bits = torch.nn.functional.pad(bits.flatten(), (0, -q.numel() * n_bits % 8)).reshape(-1, 8)  # (n_bytes, 8)
    return (bits << torch.arange(8, dtype=torch.uint8)).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: UInt8[Tensor, "n_bytes"], n_bits: int, count: int, signed: bool) -> Int64[Tensor, "count"]:
    r"""Read `count` codes of `n_bits` bits back: the inverse of `pack_bits`.

    $$ u_i = \Bigl\lfloor 2^{-n i} \sum_j \mathrm{byte}_j 2^{8j} \Bigr\rfloor \bmod 2^{n}, \qquad
       q_i = u_i - 2^{n}\,[\,\mathrm{signed} \text{ and } u_i \ge 2^{n-1}\,] $$

    The stream does not say whether its codes were signed, nor how many there are: the reader must know.
    Raises ValueError where the number of bytes is not ceil(count n / 8) or the spare bits of the last byte are not zero.
    Source: as `pack_bits`.  Notebook: 03_2_quantization.
    """
    check_tensor("unpack_bits", "packed", packed, ndim=1)
    check_n_bits("unpack_bits", n_bits, low=1)
    check_count("unpack_bits", "count", count)
    if packed.dtype != torch.uint8:
        raise TypeError(f"unpack_bits: packed must hold bytes (torch.uint8), got {packed.dtype}")
    if packed.numel() != (expected := packed_size_bytes(count, n_bits)):
        raise ValueError(f"unpack_bits: {count} codes of {n_bits} bits fill {expected} bytes, got {packed.numel()}")
    bits = ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()  # (8 n_bytes)
    if bool(bits[count * n_bits :].any()):
        raise ValueError("unpack_bits: spare bits of the last byte are not zero: other n_bits or count, or altered bytes")
    u = (bits[: count * n_bits].reshape(count, n_bits) << torch.arange(n_bits, dtype=torch.uint8)).sum(1, dtype=torch.int64)
    return torch.where(u >= 2 ** (n_bits - 1), u - 2**n_bits, u) if signed else u
