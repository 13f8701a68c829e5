r"""From real numbers to integers and back: scale, zero point, codes (section 3.2).

The document's formula is w = round(w). It has no scale, so a weight can only become ..., -1, 0, 1, ...; the weights of a
trained network lie mostly within (-0.5, 0.5), so it writes zeros. The mended form measures w in steps of a size s that we
choose, and lets an integer z stand for the real number 0:

    (1)  q      =  clip( round(w / s) + z,  q_min, q_max )      quantize: a code of b bits
    (2)  w_hat  =  s (q - z)                                    dequantize: a point of the grid
    (3)  s      =  max(|low|, |high|) / q_max,     z = 0        symmetric
    (4)  s      =  (high - low) / (q_max - q_min)               affine,
         z      =  clip( q_min - round(low / s), q_min, q_max ),    with low <= 0 <= high

Three facts follow and are tested: |w - w_hat| <= s/2 for every w in [low, high]; 0 becomes z and comes back as exactly 0
(padding, ReLU and pruned weights rely on it); quantizing a grid point changes nothing. The first needs the second: a range
that does not hold 0 (say [3, 5]) is stretched to [0, 5] *before* (4), since otherwise z would lie outside the codes, be
clipped, and the whole tensor would saturate.

Rounding is to the nearest integer, ties to even, which is what torch, numpy, IEEE 754 and ONNX do: 0.5 -> 0, 1.5 -> 2.

Production libraries differ in small ways. torch multiplies by 1/s instead of dividing by s, so that a code can differ by one
where w/s is within a rounding of a tie; ONNX Runtime divides, as here. TensorRT and most LLM kernels use symmetric codes
without the smallest one (`narrow=True`), so that -q is always a code too. Left out here: how to choose low and high for data
seen in batches (`observers.py`), one scale a row or group (`granularity.py`), gradients (`fake_quant.py`).
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_n_bits, check_tensor

LOWEST_N_BITS, HIGHEST_N_BITS = 2, 16


def round_to_integer(W: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The document's quantization, literally: each weight becomes the nearest integer, ties to even.

    $$ w_{ij} \leftarrow \mathrm{round}(w_{ij}) $$

    where nothing says how large a step is: the grid is the integers, whatever the weights are. Its only use is to be run once
    and understood: $|w_{ij}| \le 0.5$ becomes 0.

    W: weights of any shape.  Returns weights (still floating point) of the same shape.
    Raises TypeError for what is no tensor, ValueError for an empty tensor, NaN or infinity.
    Source: the document, section 3.2.  Notebook: 03_2_quantization.
    """
    check_tensor("round_to_integer", "W", W)
    return W.round()


def integer_range(n_bits: int, signed: bool = True, narrow: bool = False) -> tuple[int, int]:
    r"""The smallest and the largest code of `n_bits` bits.

    $$ q_{\min}, q_{\max} = -2^{b-1},\ 2^{b-1}-1 \ \text{(signed)} \qquad 0,\ 2^b-1 \ \text{(unsigned)} $$

    where $b$ is `n_bits`. `narrow` gives up the smallest code, so that signed codes are symmetric about 0.

    n_bits: 2 to 16.  Returns (q_min, q_max), integers.
    Raises ValueError for any other `n_bits`.
    Source: Jacob et al. 2018, eq. (12); narrow range as in TensorFlow's fake quantization.  Notebook: 03_2_quantization.
    """
    check_n_bits("integer_range", n_bits, LOWEST_N_BITS, HIGHEST_N_BITS)
    q_min = -(2 ** (n_bits - 1)) if signed else 0
    return q_min + int(narrow), q_min + 2**n_bits - 1


def choose_qparams(
    low: Float[Tensor, "..."] | float | int,
    high: Float[Tensor, "..."] | float | int,
    n_bits: int = 8,
    symmetric: bool = True,
    signed: bool = True,
) -> tuple[Float[Tensor, "..."], Integer[Tensor, "..."]]:
    r"""Scale and zero point that cover the range from `low` to `high`, equations (3) and (4) of this module.

    $$ s = \frac{\max(|low|, |high|)}{q_{\max}},\ z = 0 \qquad\text{or}\qquad
       s = \frac{high - low}{q_{\max} - q_{\min}},\ z = q_{\min} - \mathrm{round}(low / s) $$

    where the range is first stretched to hold 0: $low \leftarrow \min(low, 0)$, $high \leftarrow \max(high, 0)$. A range that
    is the single point 0 gets s = 1: any scale represents it, and 0 would be divided by.

    low, high: numbers or tensors of one shape, in the unit of the data.  Unsigned symmetric codes (z = 0) suit what is never
    negative, such as the output of a ReLU.
    Returns s (floating point, > 0) and z (int32), of the shape of `low`.
    Raises ValueError where low > high, for NaN or infinity, an impossible `n_bits`, or negative values for unsigned symmetric
    codes.
    Source: Jacob et al. 2018, section 3 and eq. (13); Krishnamoorthi 2018, section 2.  Notebook: 03_2_quantization.
    """
    q_min, q_max = integer_range(n_bits, signed)
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    low, high = (x if x.is_floating_point() else x.to(torch.get_default_dtype()) for x in (low, high))
    check_tensor("choose_qparams", "low", low)
    check_tensor("choose_qparams", "high", high, like=low)
    if bool((low > high).any()):
        raise ValueError("choose_qparams: low must not be larger than high")
    if symmetric and not signed and bool((low < 0).any()):
        raise ValueError("choose_qparams: unsigned symmetric codes hold no negative value; use signed=True or symmetric=False")
    # Double: high - low of two large float32 numbers can overflow, and z must not depend on a rounded s.
    low_d, high_d = low.double().clamp(max=0), high.double().clamp(min=0)
    width = torch.maximum(-low_d, high_d) / q_max if symmetric else (high_d - low_d) / (q_max - q_min)
    # A width below the smallest normal number would be 0 in the arithmetic of some machines.
    s = torch.where(width == 0, 1.0, width.clamp(min=torch.finfo(low.dtype).tiny)).to(low.dtype)
    if symmetric:
        return s, torch.zeros_like(s, dtype=torch.int32)
    return s, (q_min - (low_d / s.double()).round()).clamp(q_min, q_max).to(torch.int32)


def quantize(
    W: Float[Tensor, "*shape"],
    s: Float[Tensor, "..."] | float,
    z: Integer[Tensor, "..."] | int = 0,
    n_bits: int = 8,
    signed: bool = True,
) -> Integer[Tensor, "*shape"]:
    r"""Codes of the values in `W`, equation (1) of this module.

    $$ q = \mathrm{clip}\bigl(\mathrm{round}(w / s) + z,\ q_{\min},\ q_{\max}\bigr) $$

    where $s$ is the width of a step and $z$ the code of the number 0. Ties go to the even integer; what lies outside the range
    saturates at its end.

    W: values of any shape.  s, z: numbers, or tensors that broadcast to the shape of W.
    Returns integers of the shape of W: int8 or uint8 up to 8 bits, int32 above.
    Raises ValueError for an empty, NaN, infinite or complex W, for s <= 0, an impossible `n_bits`, or shapes that do not
    broadcast.
    Source: Jacob et al. 2018, eq. (1); Krishnamoorthi 2018, eq. (2)-(3).  Notebook: 03_2_quantization.
    """
    q_min, q_max = integer_range(n_bits, signed)
    check_tensor("quantize", "W", W)
    if W.is_complex() or W.dtype == torch.bool:
        raise ValueError(f"quantize: W must hold real numbers, got {W.dtype}")
    _check_qparams("quantize", W, s, z)
    q = ((W / s).round() + z).clamp(q_min, q_max)
    return q.to((torch.int8 if signed else torch.uint8) if n_bits <= 8 else torch.int32)


def dequantize(
    q: Integer[Tensor, "*shape"], s: Float[Tensor, "..."] | float, z: Integer[Tensor, "..."] | int = 0
) -> Float[Tensor, "*shape"]:
    r"""The real numbers that the codes stand for, equation (2) of this module.

    $$ \hat w = s\,(q - z) $$

    where $s$ and $z$ are those with which $q$ was made.

    q: integer codes.  s, z: numbers, or tensors that broadcast to the shape of q.
    Returns values in the unit of s.
    Raises ValueError for an empty q, codes that are no integers, s <= 0 or shapes that do not broadcast.
    Source: Jacob et al. 2018, eq. (1).  Notebook: 03_2_quantization.
    """
    check_tensor("dequantize", "q", q)
    if q.is_floating_point() or q.is_complex() or q.dtype == torch.bool:
        raise ValueError(f"dequantize: q must hold integer codes, got {q.dtype}; quantize first, or q.to(torch.int32)")
    _check_qparams("dequantize", q, s, z)
    # int32 first: 127 - (-128) does not fit into the int8 in which the codes are kept.
    steps = q.to(torch.int32) - z
    return steps.to(s.dtype if isinstance(s, Tensor) else torch.get_default_dtype()) * s


def _check_qparams(who: str, W: Tensor, s, z) -> None:
    """Refuse a scale that is not positive and finite, a fractional zero point, and shapes that do not broadcast to W's.

    Shared by the files of this package; `who` is the function that asks.
    """
    s_tensor, z_tensor = torch.as_tensor(s), torch.as_tensor(z)
    if not bool(((s_tensor > 0) & torch.isfinite(s_tensor)).all()):
        raise ValueError(f"{who}: every scale s must be finite and > 0; the smallest here is {float(s_tensor.min())!r}")
    if z_tensor.is_floating_point():
        raise ValueError(f"{who}: the zero point z is a code, so it must be an integer, got {z_tensor.dtype}")
    for name, value in (("s", s_tensor), ("z", z_tensor)):
        try:
            fits = torch.broadcast_shapes(value.shape, W.shape) == W.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(f"{who}: {name} of shape {tuple(value.shape)} does not broadcast to {tuple(W.shape)}")
