r"""Inference in integers alone: what a processor without floating point computes (section 4.2).

With x = s_x (q_x - z_x) and W = s_w q_w (symmetric, so no zero point), a layer's output is

    (1)  y_i  =  sum_j w_ij x_j + b_i  =  s_x s_w,i ( sum_j q_w,ij (q_x,j - z_x) + q_b,i )
    (2)  q_b,i  =  round( b_i / (s_x s_w,i) )                  an int32 in the unit of the sum: nothing has to be rescaled
    (3)  acc_i  =  sum_j q_w,ij (q_x,j - z_x) + q_b,i          int8 times int8 into int32
    (4)  q_y,i  =  clip( round( M_i acc_i ) + z_y ),           M_i = s_x s_w,i / s_y

M is the only real number left, and it is known beforehand. It becomes an int32 and a shift:

    (5)  M  =  M0 2^(-n),     2^30 <= M0 < 2^31                so M0 has 31 significant bits
    (6)  round(M acc)  =  (acc M0) >> n,  rounded              a 64-bit product and a shift that rounds

The error of (5) is at most 2^-31 of M, so (6) can differ from the exact M only where M acc lies that close to a tie. Rounding
is to the nearest integer, ties to even, like `quantize`; then the integers equal a simulation in real numbers with the same M0
and n to the last one.

Differences from the paper: its M0 lies in [0.5, 1) and stands for M0 / 2^31 here, so our n is its n + 31. Its reference code
(gemmlowp) rounds twice, once after the high half of the product and once after the shift, and ties away from zero; TensorFlow
Lite has both kinds since. ReLU is a clip at z_y, (4), or a max with 0 on the accumulator, which is the same.
"""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_count, check_tensor
from course_lib.quantization.affine import integer_range

INT32_MAX = 2**31 - 1


def fixed_point_multiplier(
    M: Float[Tensor, "*shape"] | float,
) -> tuple[Integer[Tensor, "*shape"], Integer[Tensor, "*shape"]]:
    r"""A positive real number as an int32 and a shift, equation (5).

    $$ M \approx M_0\, 2^{-n}, \qquad 2^{30} \le M_0 < 2^{31}, \qquad |M - M_0 2^{-n}| \le 2^{-31} M $$

    where $M_0$ is rounded to nearest. A product that rounds up to $2^{31}$ becomes $2^{30}$ with n one smaller.

    M: numbers in (2^-31, 2^30), so that n lies in 1 ... 61.  Returns M0 and n, int64, of the shape of M (M0 fits into int32).
    Raises ValueError for an empty, NaN or infinite M, or numbers outside that range.
    Source: Jacob et al. 2018, eq. (5)-(6).  Notebook: 04_2_quantization_in_practice.
    """
    M = torch.as_tensor(M, dtype=torch.float64)
    check_tensor("fixed_point_multiplier", "M", M)
    if not bool(((M > 2.0**-31) & (M < 2.0**30)).all()):
        ends = f"{float(M.min())!r} to {float(M.max())!r}"
        raise ValueError(f"fixed_point_multiplier: M must lie between 2^-31 and 2^30, got {ends}; are the scales right?")
    fraction, exponent = torch.frexp(M)  # M = fraction 2^exponent, fraction in [1/2, 1)
    M0, n = (fraction * 2**31).round().to(torch.int64), 31 - exponent.to(torch.int64)
    over = M0 == 2**31
    return torch.where(over, 2**30, M0), torch.where(over, n - 1, n)


def rounding_right_shift(x: Integer[Tensor, "*shape"], n: Integer[Tensor, "..."] | int) -> Integer[Tensor, "*shape"]:
    r"""Division by a power of two that rounds to the nearest integer, ties to even, in integers.

    $$ \mathrm{round}(x\, 2^{-n}) $$

    where the shift itself rounds down, for negative x too; one is added where the bits shifted out are more than a half, or
    are exactly a half and the result would be odd.

    x: int64.  n: 0 to 62, a number or a tensor that broadcasts to x.  Returns int64 of the shape of x.
    Raises ValueError for an empty x, one that is no integer tensor, or n outside 0 ... 62.
    Source: Jacob et al. 2018, section 2.2 (a shift with correct rounding).  Notebook: 04_2_quantization_in_practice.
    """
    x = _integers("rounding_right_shift", "x", x)
    n = torch.as_tensor(n)
    if n.is_floating_point() or bool(((n < 0) | (n > 62)).any()):
        raise ValueError("rounding_right_shift: n must be a whole number from 0 to 62")
    n = n.to(torch.int64)
    one = torch.ones((), dtype=torch.int64)
    down = x >> n
    rest, half = x - (down << n), (one << n) >> 1
    up = (rest > half) | ((rest == half) & (down % 2 != 0))
    return down + (up & (n > 0))


def requantize(
    acc: Integer[Tensor, "*shape"],
    M0: Integer[Tensor, "..."],
    n: Integer[Tensor, "..."],
    z: Integer[Tensor, "..."] | int = 0,
    n_bits: int = 8,
    signed: bool = True,
) -> Integer[Tensor, "*shape"]:
    r"""From accumulators to the codes of the next layer's input, equations (4) and (6).

    $$ q = \mathrm{clip}\bigl( \mathrm{round}(\mathrm{acc}\, M_0\, 2^{-n}) + z,\ q_{\min},\ q_{\max} \bigr) $$

    where $M_0$ and n are those of `fixed_point_multiplier`, and z is the zero point of the output.

    acc: integers within int32.  M0, n: one for all, or tensors that broadcast to acc (one a row).
    Returns int8 or uint8 up to 8 bits, int32 above.
    Raises ValueError for an empty acc, numbers that are no integers or do not fit into int32, an impossible `n_bits`.
    Source: Jacob et al. 2018, eq. (4)-(7).  Notebook: 04_2_quantization_in_practice.
    """
    q_min, q_max = integer_range(n_bits, signed)
    acc = _integers("requantize", "acc", acc)
    M0 = _integers("requantize", "M0", torch.as_tensor(M0))
    for name, value in (("acc", acc), ("M0", M0)):
        if int(value.abs().max()) > INT32_MAX:
            raise ValueError(f"requantize: {name} must fit into int32; the largest magnitude here is {int(value.abs().max())}")
    q = rounding_right_shift(acc * M0, n) + z  # |acc| < 2^31 and M0 < 2^31: the product fits into int64
    return q.clamp(q_min, q_max).to((torch.int8 if signed else torch.uint8) if n_bits <= 8 else torch.int32)


def quantize_bias(
    bias: Float[Tensor, "out"], s_x: Float[Tensor, ""] | float, s_w: Float[Tensor, "..."]
) -> Integer[Tensor, "out"]:
    r"""The bias as an int32 in the unit of the accumulator, equation (2).

    $$ q_{b,i} = \mathrm{round}\Bigl( \frac{b_i}{s_x\, s_{w,i}} \Bigr) $$

    where the unit $s_x s_{w,i}$ is so small that this rounding is invisible: hundreds of times finer than a step of the output.

    s_x: scale of the input.  s_w: scale of the weights, one number or one a row (any shape with `out` entries).
    Returns int32 (out).
    Raises ValueError for an empty, NaN or infinite bias, scales that are not positive, or a bias beyond int32.
    Source: Jacob et al. 2018, eq. (11).  Notebook: 04_2_quantization_in_practice.
    """
    check_tensor("quantize_bias", "bias", bias, ndim=1)
    unit = torch.as_tensor(s_x).double() * torch.as_tensor(s_w).double().flatten()
    if not bool((unit > 0).all()) or len(unit) not in (1, len(bias)):
        raise ValueError(f"quantize_bias: scales must be positive, one or {len(bias)} of them, got {len(unit)}")
    q = (bias.double() / unit).round()
    if float(q.abs().max()) > INT32_MAX:
        raise ValueError(
            f"quantize_bias: {float(q.abs().max()):.3g} steps of s_x s_w do not fit into int32; a scale is too small"
        )
    return q.to(torch.int32)


def integer_linear(
    q_x: Integer[Tensor, "B in"], q_w: Integer[Tensor, "out in"], z_x: int, q_bias: Integer[Tensor, "out"] | None = None
) -> Integer[Tensor, "B out"]:
    r"""The accumulators of a linear layer, equation (3): products of codes, summed in int32.

    $$ \mathrm{acc}_i = \sum_j q_{w,ij}\,(q_{x,j} - z_x) + q_{b,i} $$

    where all are integers. (An accelerator sums $q_w q_x$ and puts $-z_x \sum_j q_{w,ij}$ into the bias: the same number.)

    Returns int32 (B, out).
    Raises ValueError for empty input, codes that are no integers, shapes that do not fit, or sums that could leave int32.
    Source: Jacob et al. 2018, eq. (7)-(8).  Notebook: 04_2_quantization_in_practice.
    """
    x, w = _operands("integer_linear", q_x, q_w, z_x, q_bias, ndim=2)
    if x.shape[1] != w.shape[1]:
        raise ValueError(f"integer_linear: q_x has {x.shape[1]} columns, q_w {w.shape[1]}")
    acc = x @ w.T
    return acc if q_bias is None else acc + q_bias.to(torch.int32)


def integer_conv2d(
    q_x: Integer[Tensor, "B c h w"],
    q_w: Integer[Tensor, "out c_group kh kw"],
    z_x: int,
    q_bias: Integer[Tensor, "out"] | None = None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Integer[Tensor, "B out oh ow"]:
    r"""The accumulators of a convolution, equation (3) at each place.

    $$ \mathrm{acc}_{i,yx} = \sum_{c,u,v} q_{w,icuv}\,\bigl(q_{x,\,c,\,y+u,\,x+v} - z_x\bigr) + q_{b,i} $$

    where the border is padded with $z_x$, the code of 0, which contributes nothing: padding with the *code* 0 would be a bug.

    Returns int32 (B, out, oh, ow).
    Raises ValueError as `integer_linear`, and for channels that the groups do not divide or a kernel larger than the map.
    Source: Jacob et al. 2018, section 2.3.  Notebook: 04_2_quantization_in_practice.
    """
    who = "integer_conv2d"
    x, w = _operands(who, q_x, q_w, z_x, q_bias, ndim=4)
    for name, value, low in (("stride", stride, 1), ("padding", padding, 0), ("groups", groups, 1)):
        check_count(who, name, value, low=low)
    if x.shape[1] % groups or len(w) % groups or x.shape[1] // groups != w.shape[1]:
        raise ValueError(f"{who}: {x.shape[1]} channels in {groups} groups do not fit weights of shape {tuple(w.shape)}")
    x = torch.nn.functional.pad(x, (padding,) * 4)  # x is q_x - z_x already
    if x.shape[2] < w.shape[2] or x.shape[3] < w.shape[3]:
        raise ValueError(f"{who}: a kernel of {tuple(w.shape[2:])} does not fit a padded map of {tuple(x.shape[2:])}")
    patches = x.unfold(2, w.shape[2], stride).unfold(3, w.shape[3], stride)  # (B, c, oh, ow, kh, kw)
    B, _, oh, ow, _, _ = patches.shape
    patches = patches.reshape(B, groups, w.shape[1], oh, ow, -1).permute(1, 0, 3, 4, 2, 5).flatten(4)  # (groups, B, oh, ow, n)
    rows = w.reshape(groups, len(w) // groups, -1)  # (groups, out a group, n)
    if rows.shape[1] == 1:  # depthwise: no matrix product, one inner product a place
        acc = (patches * rows[:, 0][:, None, None, None, :]).sum(-1, dtype=torch.int32).unsqueeze(-1)
    else:
        acc = torch.stack([(p.flatten(0, 2) @ r.T).reshape(B, oh, ow, -1) for p, r in zip(patches, rows)])
    acc = acc.permute(1, 0, 4, 2, 3).flatten(1, 2)  # (B, out, oh, ow)
    return acc if q_bias is None else acc + q_bias.to(torch.int32)[:, None, None]


def _integers(who: str, name: str, X: Tensor) -> Tensor:
    """As int64; refuses what holds no integers."""
    check_tensor(who, name, X)
    if X.is_floating_point() or X.is_complex() or X.dtype == torch.bool:
        raise ValueError(f"{who}: {name} must hold integers, got {X.dtype}")
    return X.to(torch.int64)


def _operands(who: str, q_x: Tensor, q_w: Tensor, z_x: int, q_bias: Tensor | None, ndim: int) -> tuple[Tensor, Tensor]:
    """q_x - z_x and q_w as int32, after making sure that no sum can leave int32."""
    x, w = _integers(who, "q_x", q_x) - int(z_x), _integers(who, "q_w", q_w)
    check_tensor(who, "q_x", x, ndim=ndim)
    check_tensor(who, "q_w", w, ndim=ndim)
    largest = int(x.abs().max()) * int(w.abs().flatten(1).sum(1).max())
    if q_bias is not None:
        q_bias = _integers(who, "q_bias", q_bias)
        if q_bias.shape != (len(w),):
            raise ValueError(f"{who}: q_bias must have {len(w)} entries, one an output, got shape {tuple(q_bias.shape)}")
        largest += int(q_bias.abs().max())
    if largest > INT32_MAX:
        raise ValueError(f"{who}: a sum could reach {largest:.3g}, beyond int32 (2^{math.log2(largest):.1f})")
    return x.to(torch.int32), w.to(torch.int32)
