r"""Rounding inside a network that is being trained: fake quantization and its borrowed gradient (section 3.2).

The derivative of round() is 0 almost everywhere and undefined at the ties, so a network trained through real rounding receives
no gradient at all. Fake quantization computes the forward pass with the values the integers stand for, and in the backward pass
pretends that rounding was the identity:

    (1)  forward    x_hat = s ( clip(round(x / s) + z, q_min, q_max) - z )
    (2)  backward   dL/dx = dL/dx_hat * [ q_min <= round(x / s) + z <= q_max ]        straight-through estimator

The full-precision weight thus keeps collecting small updates until it crosses into the next step. Where x saturates, the
gradient is 0 (moving x further out changes nothing). s and z are constants here and get no gradient; `lsq.py` learns s.

`torch.autograd.gradcheck` cannot test (2): it compares with finite differences of (1), whose true derivative is 0 between the
ties and infinite at them. That (2) is *not* the derivative is the point. The oracle is
`torch.fake_quantize_per_tensor_affine`, forward and backward.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_tensor
from course_lib.quantization.affine import _check_qparams, integer_range


def fake_quantize(
    X: Float[Tensor, "*shape"],
    s: Float[Tensor, "..."] | float,
    z: Integer[Tensor, "..."] | int = 0,
    n_bits: int = 8,
    signed: bool = True,
) -> Float[Tensor, "*shape"]:
    r"""Quantize and dequantize; let the gradient pass straight through, equations (1) and (2) of this module.

    $$ \hat x = s\bigl(\mathrm{clip}(\mathrm{round}(x/s) + z, q_{\min}, q_{\max}) - z\bigr), \qquad
       \frac{\partial L}{\partial x} := \frac{\partial L}{\partial \hat x}\,
       [\,q_{\min} \le \mathrm{round}(x/s) + z \le q_{\max}\,] $$

    where := says that the right side is used in place of the derivative, which is 0.

    X: values of any shape.  s, z: numbers, or tensors that broadcast to X; they receive no gradient.
    Returns values of the shape of X, in its unit.
    Raises ValueError for an empty, NaN or infinite X, s <= 0, an impossible `n_bits` or shapes that do not broadcast.
    Source: Jacob et al. 2018, eq. (12) and section 3; Bengio et al. 2013 for the estimator.  Notebook: 03_2_quantization.
    """
    check_tensor("fake_quantize", "X", X)
    _check_qparams("fake_quantize", X, s, z)
    q_min, q_max = integer_range(n_bits, signed)
    return _StraightThrough.apply(X, torch.as_tensor(s, dtype=X.dtype), torch.as_tensor(z), q_min, q_max)


class _StraightThrough(torch.autograd.Function):
    """The pair (1), (2). A custom Function and not the detach trick X + (X_hat - X).detach(), whose sum rounds once more."""

    @staticmethod
    def forward(ctx, X, s, z, q_min, q_max):
        q = (X / s).round() + z
        ctx.save_for_backward((q >= q_min) & (q <= q_max))
        return (q.clamp(q_min, q_max) - z) * s

    @staticmethod
    def backward(ctx, G):
        (inside,) = ctx.saved_tensors
        return G * inside, None, None, None, None
