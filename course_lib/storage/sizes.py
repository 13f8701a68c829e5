r"""How large will it be? Every codec's section, predicted before a byte is written (sections 3.1, 3.2 and 4).

n weights in rows and columns, density d (share of non-zeros, m = round(d n)), b bits a code, K = 2^b codes:

    fp32, fp16        4 n,  2 n
    int8, int4        4 rows + n,   2 rows ceil(columns / 32) + ceil(n / 2)
    csr               4 (rows + 1) + (6 or 8) m
    bitmask           ceil(n / 8) + 4 m
    relative{b}       4 + ceil(b e / 8) + 4 e,     e = m / (1 - (1 - d)^(2^b))     expected, zeros independent
    packed            2 + 4 K + ceil(n b / 8)
    huffman           3 + 4 K + lengths + ceil(sum_k n_k l_k / 8)                  from the counts n_k of the codes
    range             3 + 4 K + frequencies + n H(n_k / n) / 8 + 6                 from the counts, within 1 % and 2 bytes

Exact for all but relative and range. "2" and "3" are the table's header (varint of K, one byte). With 2-byte values (a halved
table) 4 K becomes 2 K (`value_bytes=2`). A whole file adds its header: see `container`, eq. (1).
"""

import math

import numpy as np
from jaxtyping import Bool, Integer
from torch import Tensor

from course_lib._check import check_choice, check_count, check_fraction, check_n_bits, check_tensor
from course_lib.coding import (
    gamma_encode,
    huffman_lengths,
    huffman_size_bits,
    quantize_frequencies,
    range_coder,
    range_size_bits,
)
from course_lib.storage._bytes import varint
from course_lib.storage._layout import rows_of
from course_lib.storage.codecs import CODECS
from course_lib.storage.dense import GROUP_SIZE

PREDICTED = tuple(name for name in CODECS if name not in ("raw", "han4", "han8"))


def predicted_bytes(
    codec: str,
    shape: tuple[int, ...],
    density: float = 1.0,
    n_bits: int = 8,
    counts: Integer[Tensor, "n_codes"] | None = None,
    value_bytes: int = 4,
) -> int:
    r"""Bytes of one section, from the formulas above. What a codec does not depend on is ignored.

    $$ \text{e.g. bitmask: } \lceil n/8 \rceil + 4 d n, \qquad
       \text{range: } \tfrac18 n H(p) + 4K + \dots, \qquad \text{ratio against fp32} = \frac{32}{H(p) + \dots} $$

    density: d, share of non-zeros (csr, bitmask, relative).  n_bits: bits a code (packed: K = 2^n_bits).
    counts: how often each code occurs, all positive (huffman, range: K = len(counts)).
    value_bytes: bytes of a codebook value, 4 or 2.
    Raises ValueError for an unknown codec, a density outside [0, 1], or counts missing where they are needed.
    Source: the layouts in `dense`, `sparse`, `codebooks`.  Notebook: 02_1_core_concepts.
    """
    check_choice("predicted_bytes", "codec", codec, PREDICTED)
    check_fraction("predicted_bytes", "density", density)
    n = math.prod(shape)
    check_count("predicted_bytes", "number of weights", n)
    rows, columns = rows_of(shape)
    m = round(density * n)
    if codec in ("fp32", "fp16"):
        return n * (4 if codec == "fp32" else 2)
    if codec == "int8":
        return 4 * rows + n
    if codec == "int4":
        return 2 * rows * -(-columns // GROUP_SIZE) + -(-n // 2)
    if codec == "csr":
        return 4 * (rows + 1) + m * (6 if columns <= 1 << 16 else 8)
    if codec == "bitmask":
        return -(-n // 8) + 4 * m
    if codec.startswith("relative"):
        width = int(codec.removeprefix("relative"))
        entries = round(m / (1 - (1 - density) ** (1 << width))) if m else 0
        return 4 + -(-width * entries // 8) + 4 * entries
    return _codebook_bytes(codec, n, n_bits, counts, value_bytes)


def _codebook_bytes(codec: str, n: int, n_bits: int, counts: Tensor | None, value_bytes: int) -> int:
    if codec == "packed":
        check_n_bits("predicted_bytes", n_bits, low=1)
        return len(varint(1 << n_bits)) + 1 + value_bytes * (1 << n_bits) + -(-n * n_bits // 8)
    if counts is None or int(counts.sum()) != n or int(counts.min()) < 1:
        raise ValueError(f"predicted_bytes: codec {codec!r} needs counts, all positive, with sum {n}")
    table = len(varint(len(counts))) + 1 + value_bytes * len(counts)
    if codec == "huffman":
        lengths = huffman_lengths(counts)
        return table + len(gamma_encode(lengths)) + -(-huffman_size_bits(counts, lengths) // 8)
    f = quantize_frequencies(counts)
    bits = range_size_bits(counts, f)
    return table + len(gamma_encode(f)) + 2 + round(bits / 8 + 4 * range_coder._n_lanes(bits))


def n_filler_zeros(mask: Bool[Tensor, "*shape"], n_bits: int) -> int:
    r"""Filler zeros that the relative index needs for this very mask, counted, not estimated.

    $$ \sum_i \Bigl\lfloor \frac{\mathrm{gap}_i}{2^b} \Bigr\rfloor, \qquad
       \mathrm{gap}_i = \text{zeros between non-zero } i-1 \text{ and } i $$

    mask: `True` = the weight stays.  n_bits: b, bits of a gap, 1 to 8.  Zeros after the last non-zero need none.
    Raises ValueError for an empty mask or n_bits outside 1 to 8.
    Source: Han et al. 2016, section 2, figure 2.  Notebook: 02_1_core_concepts.
    """
    check_tensor("n_filler_zeros", "mask", mask)
    check_n_bits("n_filler_zeros", n_bits, low=1)
    gap = np.diff(np.flatnonzero(mask.flatten().numpy()), prepend=-1) - 1
    return int((gap >> n_bits).sum())
