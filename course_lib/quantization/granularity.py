r"""How many weights share a scale: the tensor, a row, a group (section 3.2).

A scale must reach the largest weight that uses it, so one large weight makes the step coarse for all its companions. Fewer
companions, smaller damage; but a scale costs bits too:

    (1)  tensor   one s for W (out, in)                 16 bits in all
    (2)  row      one s for each row (output channel)   16 / in bits a weight
    (3)  group    one s for every n_g weights of a row  16 / n_g bits a weight  (n_g = 32: half a bit)
    (4)  bits     =  n b + (number of scales) (16 + b if affine)

Rows are free to have their own scale because a scale that depends on the output alone can be taken out of the sum over the
inputs: y_i = sum_j s_i q_ij x_j = s_i sum_j q_ij x_j, so the inner loop stays in integers. A scale that changes within a row
(3) breaks that sum into pieces of n_g. A scale for each *input* (a column) could not be taken out at all.

The reshape for groups, used by everything below: W (out, in, ...) is flattened to (out, n) and cut into (out, n_groups, n_g);
the last group of a row is filled with zeros where n_g does not divide n. A range holds 0, so that changes no scale.

The range of a slice is its largest magnitude (`clip="max"`), or is searched: shrunk step by step and the range of least squared
error kept (`clip="mse"`). At 8 bits that gains little; at 2 to 4 bits it is worth a bit or more.

Production: torch.ao quantizes linear layers by row (`per_channel_affine`, axis 0); GPTQ, AWQ, GGUF use groups of 32 to 128.
"""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_choice, check_count, check_n_bits, check_tensor
from course_lib.quantization.affine import HIGHEST_N_BITS, LOWEST_N_BITS, choose_qparams, dequantize, quantize

GRANULARITIES = ("tensor", "row", "group")


def to_groups(W: Float[Tensor, "out *rest"], group_size: int = 32) -> Float[Tensor, "out n_groups group"]:
    r"""Cut each row into groups of `group_size` neighbours; zeros fill the last one.

    $$ (out,\ n) \to (out,\ \lceil n/n_g \rceil,\ n_g) $$

    where $n$ is the number of weights in a row, all input axes flattened in memory order, and $n_g$ the group size (at most
    n: a larger one means one group a row).

    Returns a new tensor; `from_groups` is the way back.
    Raises ValueError for an empty tensor, a tensor of fewer than two axes or a group size below 1.
    Source: Shen et al. 2020 (Q-BERT), section 3.2, group-wise quantization.  Notebook: 03_2_quantization.
    """
    check_tensor("to_groups", "W", W, finite=False)
    check_count("to_groups", "group_size", group_size)
    if W.ndim < 2:
        raise ValueError(f"to_groups: W needs an output axis and an input axis, got shape {tuple(W.shape)}")
    rows = W.flatten(1)  # (out, n)
    group_size = min(group_size, rows.shape[1])
    rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % group_size))
    return rows.reshape(rows.shape[0], -1, group_size).clone()


def from_groups(groups: Tensor, shape: tuple[int, ...]) -> Tensor:
    r"""Put the groups of `to_groups` back into the shape of the weights, without the filling.

    $$ (out,\ \lceil n/n_g \rceil,\ n_g) \to (out,\ n) \to \text{shape} $$

    where $n$ is the product of all axes of `shape` but the first.

    groups: (out, n_groups, group), values or codes.  Returns a tensor of `shape`.
    Raises ValueError where the groups cannot have come from that shape.
    Source: inverse of `to_groups`.  Notebook: 03_2_quantization.
    """
    check_tensor("from_groups", "groups", groups, ndim=3, finite=False)
    n = math.prod(shape[1:])
    if groups.shape[0] != shape[0] or not n <= groups.shape[1] * groups.shape[2] < n + groups.shape[2]:
        raise ValueError(f"from_groups: groups of shape {tuple(groups.shape)} do not make weights of shape {tuple(shape)}")
    return groups.flatten(1)[:, :n].reshape(shape)


def weight_qparams(
    W: Float[Tensor, "*shape"],
    n_bits: int = 8,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int = 32,
    clip: str = "max",
) -> tuple[Float[Tensor, "..."], Integer[Tensor, "..."]]:
    r"""Scales and zero points of a weight tensor, one for each slice that shares a range.

    $$ s_i = \frac{\max_{j \in \text{slice } i} |w_{ij}|}{q_{\max}} \quad \text{(symmetric; affine from min and max)} $$

    where a slice is the whole tensor, a row, or a group within a row. Codes are signed. With `clip="mse"` the range of each
    slice is shrunk in 1 % steps to no less than a twentieth, and the one of least squared error is kept.

    W: weights (out, ...).
    Returns s and z of shape () for "tensor", (out, 1, ..., 1) for "row": both broadcast to W. For "group": (out, n_groups, 1),
    which broadcasts to `to_groups(W, group_size)`.
    Raises ValueError for empty, NaN, infinite or integer weights, an unknown granularity or clip, an impossible `n_bits`.
    Source: Krishnamoorthi 2018, section 2.4; Shen et al. 2020 for groups; Choukroun et al. 2019, section 3 for the search.
    Notebook: 03_2_quantization.
    """
    check_choice("weight_qparams", "clip", clip, ("max", "mse"))
    slices = _slices(W, granularity, group_size)
    axes = {"tensor": tuple(range(W.ndim)), "row": tuple(range(1, W.ndim)), "group": (2,)}[granularity]
    low, high = slices.amin(axes, keepdim=True), slices.amax(axes, keepdim=True)
    s, z = choose_qparams(low, high, n_bits, symmetric)
    if clip == "mse":
        s, z = _search_range(slices, axes, low, high, n_bits, symmetric)
    return (s.reshape(()), z.reshape(())) if granularity == "tensor" else (s, z)


def _slices(W: Tensor, granularity: str, group_size: int) -> Tensor:
    """W in the shape to which the scales of this granularity broadcast."""
    check_tensor("weight_qparams", "W", W)
    if not W.is_floating_point():
        raise ValueError(f"weight_qparams: W must hold floating-point weights, got {W.dtype}; W.float() makes them so")
    check_choice("weight_qparams", "granularity", granularity, GRANULARITIES)
    if granularity == "row" and W.ndim < 2:
        raise ValueError(f"weight_qparams: rows need an output axis and an input axis, got shape {tuple(W.shape)}")
    return to_groups(W, group_size) if granularity == "group" else W


def _search_range(slices, axes, low, high, n_bits, symmetric) -> tuple[Tensor, Tensor]:
    """For each slice the shrunk range whose squared error is least; the full range wins ties."""
    best_error = torch.full_like(low, math.inf)
    best_s, best_z = choose_qparams(low, high, n_bits, symmetric)
    for share in torch.arange(100, 4, -1).tolist():
        s, z = choose_qparams(low * (share / 100), high * (share / 100), n_bits, symmetric)
        error = (dequantize(quantize(slices, s, z, n_bits), s, z) - slices).square().sum(axes, keepdim=True)
        better = error < best_error
        best_error, best_s, best_z = (
            torch.where(better, new, old) for new, old in ((error, best_error), (s, best_s), (z, best_z))
        )
    return best_s, best_z


def fake_quantize_weights(
    W: Float[Tensor, "*shape"],
    n_bits: int = 8,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int = 32,
    clip: str = "max",
) -> Float[Tensor, "*shape"]:
    r"""There and back in one call: the weights that the codes of `weight_qparams` stand for.

    $$ \hat W = s \bigl( \mathrm{clip}(\mathrm{round}(W/s) + z) - z \bigr) $$

    where s and z are those of the slice of each weight.

    W: weights (out, ...).  Returns floating-point weights of the same shape that take at most $2^b$ values a slice.
    Raises ValueError as `weight_qparams`.
    Source: Jacob et al. 2018, eq. (12).  Notebook: 03_2_quantization.
    """
    s, z = weight_qparams(W, n_bits, symmetric, granularity, group_size, clip)
    slices = _slices(W, granularity, group_size)
    W_hat = dequantize(quantize(slices, s, z, n_bits), s, z)
    return from_groups(W_hat, tuple(W.shape)) if granularity == "group" else W_hat


def quantized_bits(
    shape: tuple[int, ...],
    n_bits: int = 8,
    symmetric: bool = True,
    granularity: str = "tensor",
    group_size: int = 32,
    scale_bits: int = 16,
) -> int:
    r"""What a quantized weight tensor costs, scales and zero points counted, equation (4) of this module.

    $$ \text{bits} = n\,b + n_s\,(b_s + b\,[\text{affine}]) $$

    where $n$ is the number of weights, $n_s$ that of scales and $b_s$ the bits of one scale. Zero points cost b bits each and
    exist for affine codes only.

    shape: that of the weights (out, ...).  Returns bits, a whole number; headers and names are a file's affair.
    Raises ValueError for an unknown granularity, an empty shape, rows or groups of a vector, an impossible `n_bits`, a group
    size below 1 or a negative `scale_bits`.
    Source: counting; Dettmers and Zettlemoyer 2023, section 2 for the cost of groups.  Notebook: 03_2_quantization.
    """
    check_choice("quantized_bits", "granularity", granularity, GRANULARITIES)
    shape = tuple(shape)
    for size in shape:
        check_count("quantized_bits", "an axis of the shape", size, low=0)
    check_count("quantized_bits", "number of weights", math.prod(shape))
    if granularity != "tensor" and len(shape) < 2:
        raise ValueError(f"quantized_bits: rows need an output axis and an input axis, got shape {shape}")
    check_n_bits("quantized_bits", n_bits, LOWEST_N_BITS, HIGHEST_N_BITS)
    check_count("quantized_bits", "group_size", group_size)
    check_count("quantized_bits", "scale_bits", scale_bits, low=0)
    n_row = math.prod(shape[1:])
    n_scales = 1 if granularity == "tensor" else shape[0]
    if granularity == "group":
        n_scales *= math.ceil(n_row / min(group_size, n_row))
    return math.prod(shape) * n_bits + n_scales * (scale_bits + (0 if symmetric else n_bits))
