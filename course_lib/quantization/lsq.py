r"""Learned step size quantization: the scale is a parameter like any other (section 3.2).

With 8 bits the range can be read off the data. With 2 or 3 it decides everything, and the best one changes while the weights
adapt. LSQ gives the scale a gradient. With v the value, s the step, Q_n = -q_min and Q_p = q_max:

    (1)  v_hat          =  s round( clip(v / s, -Q_n, Q_p) )
    (2)  d v_hat / d s  :=  round(v/s) - v/s     where -Q_n < v/s < Q_p
                        :=  -Q_n                 where v/s <= -Q_n
                        :=  Q_p                  where v/s >= Q_p
    (3)  d v_hat / d v  :=  1 strictly inside, 0 elsewhere
    (4)  dL/ds          =  nu sum_i dL/dv_hat_i  d v_hat_i / d s,  nu = 1 / sqrt(N Q_p)
    (5)  s_0            =  2 mean|v| / sqrt(Q_p)

(2) is what the product rule gives when round has derivative 1: d/ds [s round(v/s)] = round(v/s) + s (-v/s^2). It is the
distance of the value from its grid point, in steps, and jumps from -1/2 to 1/2 at a tie: values about to change their code
weigh most. Older methods (PACT, QIL) have no such term between the ends. (4): the sum over N values makes the gradient of s
larger than that of one weight by about sqrt(N Q_p), relative to their sizes; nu brings both to one pace, so that one
learning rate serves.

Left out: activations (the same function with unsigned codes would do) and a zero point (LSQ+, Bhalgat et al. 2020).
The paper's letter N for the number of values stays; its g is our nu (g is a gradient here), its bit width `n_bits`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib._check import check_count, check_tensor
from course_lib.quantization.affine import _check_qparams, integer_range


def lsq_initial_scale(V: Float[Tensor, "*shape"], n_bits: int = 4, signed: bool = True) -> Float[Tensor, ""]:
    r"""The step with which training starts, equation (5) of this module.

    $$ s_0 = \frac{2\, \overline{|v|}}{\sqrt{Q_p}} $$

    where the bar is the mean over all values and $Q_p$ the largest code.

    V: values of any shape.  Returns a scale > 0 in their unit (1 for an all-zero V).
    Raises ValueError for an empty, NaN or infinite V or an impossible `n_bits`.
    Source: Esser et al. 2020, section 2.1.  Notebook: 03_2_quantization.
    """
    check_tensor("lsq_initial_scale", "V", V)
    q_max = integer_range(n_bits, signed)[1]
    s = 2 * V.detach().abs().mean() / math.sqrt(q_max)
    return torch.where(s > 0, s, torch.ones_like(s))


def lsq_gradient_scale(n_values: int, q_max: int) -> float:
    r"""The factor nu that slows the step size down to the pace of the weights, equation (4) of this module.

    $$ \nu = \frac{1}{\sqrt{N\,Q_p}} $$

    where $N$ is the number of values that share the step and $Q_p$ = `q_max`.

    Returns a number in (0, 1].
    Raises ValueError for counts below 1.
    Source: Esser et al. 2020, section 2.2.  Notebook: 03_2_quantization.
    """
    check_count("lsq_gradient_scale", "n_values", n_values)
    check_count("lsq_gradient_scale", "q_max", q_max)
    return 1 / math.sqrt(n_values * q_max)


def lsq_quantize(
    V: Float[Tensor, "*shape"], s: Float[Tensor, "..."], n_bits: int = 4, signed: bool = True
) -> Float[Tensor, "*shape"]:
    r"""Fake quantization whose step size receives a gradient, equations (1) to (4) of this module.

    $$ \hat v = s\,\mathrm{round}\bigl(\mathrm{clip}(v/s, -Q_n, Q_p)\bigr), \qquad
       \frac{\partial \hat v}{\partial s} := \begin{cases} \mathrm{round}(v/s) - v/s & \text{inside} \\ -Q_n & \text{below} \\
       Q_p & \text{above} \end{cases} $$

    where "inside" is $-Q_n < v/s < Q_p$, and $\partial \hat v / \partial v$ is 1 inside and 0 elsewhere.

    V: values of any shape.  s: a scale, or one a row (any shape that broadcasts to V); N in nu counts those that share one.
    Returns values of the shape of V.
    Raises ValueError for an empty, NaN or infinite V, s <= 0 or a shape of s that does not broadcast.
    Source: Esser et al. 2020, eq. (1)-(3) and (5).  Notebook: 03_2_quantization.
    """
    check_tensor("lsq_quantize", "V", V)
    _check_qparams("lsq_quantize", V, s, 0)
    q_min, q_max = integer_range(n_bits, signed)
    return _LearnedStep.apply(V, s, q_min, q_max, lsq_gradient_scale(V.numel() // s.numel(), q_max))


class _LearnedStep(torch.autograd.Function):
    """Forward (1), backward (2) to (4)."""

    @staticmethod
    def forward(ctx, V, s, q_min, q_max, nu):
        ctx.save_for_backward(V / s, s)
        ctx.ends = q_min, q_max, nu
        return (V / s).clamp(q_min, q_max).round() * s

    @staticmethod
    def backward(ctx, G):
        steps, s = ctx.saved_tensors
        q_min, q_max, nu = ctx.ends
        inside = (steps > q_min) & (steps < q_max)
        per_value = torch.where(inside, steps.round() - steps, steps.clamp(q_min, q_max))
        return G * inside, nu * (G * per_value).sum_to_size(s.shape), None, None, None
