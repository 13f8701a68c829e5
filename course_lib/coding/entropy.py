r"""How few bits can a list of symbols take, and how to write the small tables a decoder needs? (section 4)

    (1)  p_k   =  n_k / n                                        how often symbol k occurs
    (2)  H(p)  =  -sum_k p_k log2 p_k                            bits a symbol, with 0 log 0 = 0
    (3)  n H(p) <= bits of any code that treats symbols alike and independently, on average

A layer pruned to a share d of its weights, the rest shared among K values, is a list of symbols 0 (pruned), 1 ... K. Its
entropy splits into where the weights are and which they are:

    (4)  H  =  H2(d) + d H(codes of the kept)  <=  H2(d) + d log2 K

so the ratio against fp32 is 32 / H. At d = 0.08 and 32 codes: 32 / (0.402 + 0.4) = 40, Deep Compression's own figure.

A decoder must be told the code itself: lengths, frequencies, most of them small or zero. Elias' gamma code writes any whole
number without knowing how large it may be; here v + 1 is written, so that 0 is welcome:

    (5)  gamma(v)  =  floor(log2(v + 1)) zeros, then v + 1 in binary          2 floor(log2(v + 1)) + 1 bits

Left out: models that look at neighbours or learn as they read (CABAC in DeepCABAC, context mixing). (3) does not bind those.
"""

import math

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from course_lib._check import check_count, check_tensor


def symbol_counts(symbols: Integer[Tensor, "*shape"], n_symbols: int) -> Int64[Tensor, "n_symbols"]:
    r"""How often each of the symbols 0 ... K-1 occurs.

    $$ n_k = \#\{\, i : x_i = k \,\} $$

    symbols: any shape, also empty.  n_symbols: K >= 1.
    Raises ValueError for symbols outside 0 ... K-1.
    Source: counting.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    check_count("symbol_counts", "n_symbols", n_symbols)
    _check_symbols("symbol_counts", symbols, n_symbols)
    return symbols.flatten().long().bincount(minlength=n_symbols)


def entropy_bits(counts: Integer[Tensor, "n_symbols"] | Float[Tensor, "n_symbols"]) -> float:
    r"""Entropy of the distribution that the counts (or probabilities) describe, eq. (1) and (2).

    $$ H(p) = -\sum_k p_k \log_2 p_k, \qquad p_k = \frac{n_k}{\sum_j n_j} $$

    counts: non-negative; need not sum to one.  Returns bits a symbol; 0 for a single symbol, and for no symbols at all.
    Raises TypeError for what is no tensor of numbers, ValueError for negative or non-finite counts, or not one dimension.
    Source: Shannon 1948, section 6.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("entropy_bits", "counts", counts, shares=True)
    if counts.numel() == 0:
        return 0.0
    n = counts.double()
    if float(n.sum()) == 0:
        return 0.0
    return max(0.0, float(torch.special.entr(n / n.sum()).sum()) / math.log(2))


def gamma_encode(values: Integer[Tensor, "n"]) -> bytes:
    r"""Write non-negative whole numbers in Elias' gamma code of v + 1, eq. (5); the last byte is filled with zeros.

    $$ \gamma(v) = \underbrace{0 \dots 0}_{\lfloor \log_2 (v+1) \rfloor}\, \mathrm{binary}(v + 1) $$

    Bits are most significant first.
    Raises TypeError for what is no tensor of integers, ValueError for negative values, or not one dimension.
    Source: Elias 1975.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("gamma_encode", "values", values)
    v = [value + 1 for value in values.tolist()]
    bits = "".join("0" * (w.bit_length() - 1) + f"{w:b}" for w in v)
    return int(bits + "0" * (-len(bits) % 8) or "0", 2).to_bytes(-(-len(bits) // 8), "big")


def gamma_decode(data: bytes, count: int) -> tuple[Int64[Tensor, "count"], int]:
    r"""Read `count` numbers back, and say how many bytes they took: what follows them is left alone.

    $$ v = \mathrm{binary}^{-1}(\text{as many bits after the first one as zeros before it}) - 1 $$

    Raises ValueError where the bytes end too early, a number exceeds 2^40, or the filling is not zero.
    Source: Elias 1975.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    check_count("gamma_decode", "count", count, low=0)
    if count > 8 * len(data):
        raise ValueError(f"gamma_decode: {len(data)} bytes cannot hold {count} numbers")
    bits = f"{int.from_bytes(data[: 11 * count], 'big'):0{8 * len(data[: 11 * count])}b}" if count else ""
    values, at = [], 0
    for _ in range(count):
        one = bits.find("1", at)
        end = 2 * one - at + 1
        if one < 0 or end > len(bits) or one - at > 40:
            raise ValueError("gamma_decode: the bytes end inside a number, or it exceeds 2^40")
        values.append(int(bits[one:end], 2) - 1)
        at = end
    n_bytes = -(-at // 8)
    if "1" in bits[at : 8 * n_bytes]:
        raise ValueError("gamma_decode: the filling is not zero, so these bytes are no such list")
    return torch.tensor(values, dtype=torch.int64), n_bytes


def _check_symbols(who: str, symbols: Tensor, n_symbols: int) -> None:
    """Refuse what is no tensor of whole numbers 0 ... K-1; the empty list of symbols is welcome."""
    _check_integers(who, "symbols", symbols)
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < n_symbols:
        low, high = int(symbols.min()), int(symbols.max())
        raise ValueError(f"{who}: symbols run from {low} to {high}, the alphabet from 0 to {n_symbols - 1}")


def _check_counts(who: str, name: str, counts: Tensor, shares: bool = False) -> None:
    """Refuse what is no list of whole numbers >= 0; with `shares`, fractions are welcome too. So is the empty list."""
    if not (shares and isinstance(counts, Tensor) and counts.is_floating_point()):
        _check_integers(who, name, counts)
    if counts.ndim != 1:
        raise ValueError(f"{who}: {name} must have 1 dimension, one entry a symbol, got shape {tuple(counts.shape)}")
    if counts.numel() == 0:
        return
    check_tensor(who, name, counts)
    if bool((counts < 0).any()):
        raise ValueError(f"{who}: {name} must be >= 0, the smallest is {counts.min().item()}")


def _check_integers(who: str, name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{who}: {name} must be a tensor of integers, got {got}")
