r"""Rounding by lot: right on average (section 3.2).

Rounding to nearest makes the smallest error on each value, and always the same one: an update of 0.1 step is lost every time.
Stochastic rounding goes up with the probability of the fraction, so nothing is lost on average:

    (1)  r(x)  =  floor(x) + [ u < x - floor(x) ],     u uniform in [0, 1)
    (2)  E r   =  floor(x) + (x - floor(x))  =  x
    (3)  Var r =  f (1 - f) <= 1/4,                    f = x - floor(x)
    (4)  averaged over a uniform f: E (r - x)^2 = 1/6, twice the 1/12 of rounding to nearest

It is the tool of training in few bits (sums of many small updates) and of averages over many values; for weights that are
rounded once, twice the squared error is usually a bad bargain, as the chapter measures. u is a multiple of 2^-24 in float32, so
(2) holds to that accuracy.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_tensor
from course_lib.quantization.affine import _check_qparams, integer_range


def stochastic_round(X: Float[Tensor, "*shape"], generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    r"""Round up with the probability of the fraction, down otherwise, equation (1) of this module.

    $$ r(x) = \lfloor x \rfloor + [\, u < x - \lfloor x \rfloor \,], \qquad \mathbb{E}\, r(x) = x $$

    where $u$ is uniform in [0, 1), drawn anew for each value.

    X: values of any shape, in steps.  generator: for a result that can be repeated.
    Returns integers, as floating point, of the same shape; an integer stays itself.
    Raises ValueError for an empty, NaN or infinite X.
    Source: Gupta et al. 2015, section 3.  Notebook: 03_2_quantization.
    """
    check_tensor("stochastic_round", "X", X)
    down = X.floor()
    u = torch.rand(X.shape, generator=generator, dtype=X.dtype)
    return down + (u < X - down)


def quantize_stochastic(
    W: Float[Tensor, "*shape"],
    s: Float[Tensor, "..."] | float,
    z: Integer[Tensor, "..."] | int = 0,
    n_bits: int = 8,
    signed: bool = True,
    generator: torch.Generator | None = None,
) -> Integer[Tensor, "*shape"]:
    r"""Codes as `quantize` makes them, with stochastic rounding in place of the nearest.

    $$ q = \mathrm{clip}\bigl( r(w/s) + z,\ q_{\min},\ q_{\max} \bigr) $$

    where r is `stochastic_round`.

    W: values of any shape.  s, z: numbers, or tensors that broadcast to W.
    Returns int32 codes of the shape of W.
    Raises ValueError as `quantize`.
    Source: Gupta et al. 2015, section 3.  Notebook: 03_2_quantization.
    """
    check_tensor("quantize_stochastic", "W", W)
    _check_qparams("quantize_stochastic", W, s, z)
    q_min, q_max = integer_range(n_bits, signed)
    return (stochastic_round(W / s, generator) + z).clamp(q_min, q_max).to(torch.int32)
