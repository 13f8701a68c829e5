r"""A range coder: fractions of a bit for every symbol (section 4).

Huffman rounds each symbol's cost up to whole bits. A range coder writes the whole list as one large number x and spends
log2(1/p) bits on a symbol of probability p: appending symbol k multiplies x by about 1/p_k. With whole frequencies f_k that
sum to TOTAL = 2^16 and F_k = f_0 + ... + f_{k-1}, this is the range variant of asymmetric numeral systems (rANS):

    (1)  push k:   x'  =  floor(x / f_k) TOTAL + F_k + (x mod f_k)
    (2)  pop:      k   =  the symbol whose [F_k, F_k + f_k) holds x' mod TOTAL
                   x   =  f_k floor(x' / TOTAL) + (x' mod TOTAL) - F_k
    (3)  size      =  sum_k n_k log2(TOTAL / f_k)  bits  +  about 32 bits a lane  +  16 bits

(2) undoes (1) exactly, last in, first out, so the encoder starts at the end of the list. To keep x small it lives in
[2^24, 2^40): before a push that would leave the interval the low 16 bits go to the stream; after a pop that fell below 2^24, 16
bits come back. The decoder must end at the x = 2^24 where the encoder began and with no word left: a free test for damage.

One number is one chain of dependent steps. Many lanes (symbol i belongs to lane i mod L, one x each, a common stream of words)
let numpy do a step for all lanes at once. A lane costs 4 bytes: its last x takes 5, of which 24 bits were there from the start
and 8 carry symbols on average. So short lists get one lane and a plain Python loop.

The model has to travel too: `gamma_encode` of the f_k spends 2 floor(log2(f_k + 1)) + 1 bits on each.

Left out: adaptive models. Production: zstd's FSE is the table form of the same idea; `constriction` offers both kinds.
"""

import heapq
import math

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from course_lib._check import check_count
from course_lib.coding.entropy import _check_counts, _check_integers, _check_symbols

MODEL_BITS = 16
TOTAL = 1 << MODEL_BITS
LOW = 1 << 24  # x lives in [LOW, LOW * 2^16): 2^8 above TOTAL, so the floors in (1) cost less than 0.1 % of a bit
LANE_BYTES = 5  # a final x below 2^40
MAX_LANES = 1024


def quantize_frequencies(counts: Integer[Tensor, "n_symbols"]) -> Int64[Tensor, "n_symbols"]:
    r"""Whole frequencies with sum 2^16, at least 1 for every symbol that occurs, close to the counts.

    $$ f_k \approx 2^{16} \frac{n_k}{n}, \qquad f_k \ge [\,n_k > 0\,], \qquad \sum_k f_k = 2^{16} $$

    What rounding leaves over goes to, or is taken from, the symbols where the size (3) gains most or loses least.
    All counts zero (nothing to code) gives all zeros.
    Raises TypeError for what is no tensor of integers, ValueError for counts that are negative or not one-dimensional, or more
    than 2^16 symbols that occur.
    Source: Duda 2013 (arXiv 1311.2540), section 5.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("quantize_frequencies", "counts", counts)
    n = counts.double().numpy()
    present = n > 0
    if present.sum() > TOTAL:
        raise ValueError(f"quantize_frequencies: {present.sum()} symbols occur; the model has room for {TOTAL}")
    if not present.any():
        return torch.zeros(n.size, dtype=torch.int64)
    f = np.where(present, np.maximum(1, np.rint(n / n.sum() * TOTAL)), 0).astype(np.int64).tolist()
    step = 1 if (missing := TOTAL - sum(f)) > 0 else -1
    # (bits that the step costs, symbol); a symbol of frequency 1 cannot give any more
    heap = [(c * math.log2(f[k] / (f[k] + step)), k) for k, c in enumerate(n.tolist()) if f[k] + step > 0 and c > 0]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        k = heap[0][1]
        f[k] += step
        if f[k] + step > 0:
            heapq.heapreplace(heap, (n[k] * math.log2(f[k] / (f[k] + step)), k))
        else:
            heapq.heappop(heap)
    return torch.tensor(f, dtype=torch.int64)


def range_size_bits(counts: Integer[Tensor, "n_symbols"], frequencies: Integer[Tensor, "n_symbols"]) -> float:
    r"""Bits of the coded symbols without lanes and model, eq. (3): the cross-entropy of counts and model.

    $$ \mathrm{size\_bits} = \sum_k n_k \log_2 \frac{2^{16}}{f_k} \;\ge\; n\,H(n/\textstyle\sum n) $$

    Raises TypeError for what are no tensors of integers, ValueError for negative entries, another rank than 1, two lists that
    differ in length, or where a symbol that occurs has frequency 0.
    Source: Cover and Thomas 2006, theorem 5.4.3.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    _check_counts("range_size_bits", "counts", counts)
    _check_counts("range_size_bits", "frequencies", frequencies)
    if counts.shape != frequencies.shape:
        raise ValueError(f"range_size_bits: {len(counts)} counts, but {len(frequencies)} frequencies; both are one a symbol")
    if bool(((counts > 0) & (frequencies == 0)).any()):
        raise ValueError("range_size_bits: every symbol that occurs needs a frequency of at least 1")
    occurs = counts > 0
    return float((counts[occurs].double() * (MODEL_BITS - frequencies[occurs].double().log2())).sum())


def _n_lanes(size_bits: float) -> int:
    """A lane for every 600 bytes, so that its 4 bytes stay below 0.7 %; with fewer than 32 lanes numpy gains nothing."""
    lanes = int(size_bits // (8 * 600))
    return 1 if lanes < 32 else min(lanes, MAX_LANES)


def range_encode(symbols: Integer[Tensor, "*shape"], frequencies: Integer[Tensor, "n_symbols"]) -> bytes:
    r"""Code the symbols with a static model, eq. (1), from the last to the first.

    $$ x' = \lfloor x / f_k \rfloor \, 2^{16} + F_k + (x \bmod f_k) $$

    symbols: any shape, row-major; may be empty.  frequencies: from `quantize_frequencies`.
    The stream: number of lanes less one (2 bytes), final x of each lane (5 bytes), then the 16-bit words in the order the
    decoder wants them; all little-endian. No symbols give no bytes.
    Raises TypeError for floats, ValueError for symbols out of range or with frequency 0, or a model that does not sum to 2^16.
    Source: Duda 2013, section 5; Giesen 2014 (interleaving).  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    f, start = _checked_model("range_encode", frequencies)
    _check_symbols("range_encode", symbols, len(f))
    x = symbols.flatten().long().numpy()
    if len(x) == 0:
        return b""
    if (f[x] == 0).any():
        raise ValueError(f"range_encode: symbol {x[f[x] == 0][0]} has frequency 0 in the model")
    n_lanes = _n_lanes(float((MODEL_BITS - np.log2(f[x])).sum()))
    states, words = (_push_one_lane if n_lanes == 1 else _push_lanes)(x, f, start, n_lanes)
    head = b"".join(int(state).to_bytes(LANE_BYTES, "little") for state in states)
    return (n_lanes - 1).to_bytes(2, "little") + head + np.asarray(words[::-1], "<u2").tobytes()


def range_decode(data: bytes, frequencies: Integer[Tensor, "n_symbols"], count: int) -> Int64[Tensor, "count"]:
    r"""Read `count` symbols back, eq. (2): the inverse of `range_encode`.

    $$ x = f_k \lfloor x' / 2^{16} \rfloor + (x' \bmod 2^{16}) - F_k, \qquad F_k \le x' \bmod 2^{16} < F_k + f_k $$

    Raises ValueError where the stream is too short, too long, or does not end in the state the encoder began with.
    Source: Duda 2013, section 5.  Notebook: 02_1_core_concepts, 04_4_deep_compression.
    """
    check_count("range_decode", "count", count, low=0)
    f, start = _checked_model("range_decode", frequencies)
    if count == 0:
        if data:
            raise ValueError(f"range_decode: {len(data)} bytes for no symbols")
        return torch.zeros(0, dtype=torch.int64)
    n_lanes = int.from_bytes(data[:2], "little") + 1
    head = 2 + LANE_BYTES * n_lanes
    if len(data) < head or (len(data) - head) % 2 or n_lanes > MAX_LANES or not f.any():
        raise ValueError(f"range_decode: {len(data)} bytes are no stream of {n_lanes} lanes")
    states = [int.from_bytes(data[2 + LANE_BYTES * i : 2 + LANE_BYTES * (i + 1)], "little") for i in range(n_lanes)]
    words = np.frombuffer(data, "<u2", offset=head).astype(np.int64)
    symbol_at = np.repeat(np.arange(len(f)), f)  # (2^16): which symbol owns each remainder
    pop = _pop_one_lane if n_lanes == 1 else _pop_lanes
    return torch.from_numpy(pop(states, words, symbol_at, f, start, count))


def _checked_model(who: str, frequencies: Tensor) -> tuple[np.ndarray, np.ndarray]:
    _check_integers(who, "frequencies", frequencies)
    if frequencies.ndim != 1:
        raise ValueError(f"{who}: frequencies must have 1 dimension, one entry a symbol, got {tuple(frequencies.shape)}")
    f = frequencies.long().numpy()
    if f.size and (f.min() < 0 or f.sum() not in (0, TOTAL)):
        raise ValueError(f"{who}: frequencies must be >= 0 and sum to {TOTAL}, got the sum {f.sum()}; use quantize_frequencies")
    return f, np.cumsum(f) - f


def _push_one_lane(x: np.ndarray, f: np.ndarray, start: np.ndarray, n_lanes: int) -> tuple[list[int], list[int]]:
    """Eq. (1) as it stands, for one number."""
    state, words = LOW, []
    for fk, Fk in zip(f[x[::-1]].tolist(), start[x[::-1]].tolist()):
        if state >= fk << 24:  # LOW * 2^16 / TOTAL = 2^24: the push would reach 2^40
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // fk << MODEL_BITS) + Fk + state % fk
    return [state], words


def _pop_one_lane(states, words, symbol_at, f, start, count) -> np.ndarray:
    """Eq. (2) as it stands, for one number."""
    state, used, words = states[0], 0, [*words.tolist(), 0]
    symbol_at, f, start, out = symbol_at.tolist(), f.tolist(), start.tolist(), [0] * count
    for i in range(count):
        low = state & (TOTAL - 1)
        out[i] = k = symbol_at[low]
        state = f[k] * (state >> MODEL_BITS) + low - start[k]
        if state < LOW:
            if used + 1 >= len(words):
                raise ValueError(f"range_decode: the stream ends at symbol {i} of {count}")
            state = state << 16 | words[used]
            used += 1
    _check_end(state == LOW, used == len(words) - 1)
    return np.asarray(out, np.int64)


def _push_lanes(x: np.ndarray, f: np.ndarray, start: np.ndarray, n_lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Eq. (1) for all lanes at once. Within a step words go out last lane first: all is read reversed."""
    state, words = np.full(n_lanes, LOW, np.int64), []
    for begin in reversed(range(0, len(x), n_lanes)):
        k = x[begin : begin + n_lanes]
        live = state[: len(k)]  # a view: the last step may have fewer symbols than lanes
        full = live >= f[k] << 24
        words.append((live[full] & 0xFFFF)[::-1])
        live[full] >>= 16
        live[:] = (live // f[k] << MODEL_BITS) + start[k] + live % f[k]
    return state, np.concatenate(words)


def _pop_lanes(states, words, symbol_at, f, start, count) -> np.ndarray:
    """Eq. (2) for all lanes at once."""
    state, used, out = np.asarray(states, np.int64), 0, np.empty(count, np.int64)
    n_lanes = len(states)
    for begin in range(0, count, n_lanes):
        live = state[: min(n_lanes, count - begin)]
        low = live & (TOTAL - 1)
        k = symbol_at[low]
        out[begin : begin + n_lanes] = k
        live[:] = f[k] * (live >> MODEL_BITS) + low - start[k]
        hungry = np.flatnonzero(live < LOW)
        if used + len(hungry) > len(words):
            raise ValueError(f"range_decode: the stream ends at symbol {begin} of {count}")
        live[hungry] = live[hungry] << 16 | words[used : used + len(hungry)]
        used += len(hungry)
    _check_end(bool((state == LOW).all()), used == len(words))
    return out


def _check_end(at_start: bool, all_read: bool) -> None:
    if not (at_start and all_read):
        raise ValueError("range_decode: the stream does not end where its encoder began: other model or count, or altered")
