r"""AdaRound: choosing up or down for each weight by what the layer's output loses (section 3.2).

Rounding to nearest minimizes the error of each *weight*. The network sees sums of weights times inputs, and in a sum errors can
cancel. For a row with weight error d = w - w_hat, and inputs x from calibration data,

    (1)  E (x . d)^2  =  d^T Sigma d,      Sigma = E x x^T                  (in, in)

so two errors on correlated inputs should have opposite signs. Choosing up or down for each of n weights has 2^n answers;
AdaRound relaxes the choice to a number h in [0, 1] and lets gradient descent find it:

    (2)  w_soft  =  s clip( floor(w / s) + h(v) + z, q_min, q_max ) - s z
    (3)  h(v)    =  clip( sigmoid(v) (zeta - gamma) + gamma, 0, 1 ),      zeta = 1.1, gamma = -0.1     rectified sigmoid
    (4)  f(v)    =  sum_i ( 1 - |2 h(v_i) - 1|^beta )                     0 only when every h is 0 or 1
    (5)  minimize over v:  E(w_soft) / E(nearest) + lambda f(v) / n

beta starts at 20, where (4) is flat except next to 0 and 1 and leaves h free, and falls to 2, where it pushes every h to an
end. The stretch in (3) makes h reach 0 and 1 exactly for finite v. The first fifth of the steps runs without (4).

Differences from the paper: the output error is written with Sigma (1), the sum over all calibration inputs at once, so no
batches are drawn and the result is the same each time; it is divided by that of rounding to nearest, which makes lambda
dimensionless. The activation function and the errors of the layers before (the paper's "asymmetric reconstruction") are left
out. GPTQ minimizes the same (1) greedily, column by column.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_count, check_number, check_tensor
from course_lib.quantization.affine import _check_qparams, dequantize, integer_range, quantize

ZETA, GAMMA = 1.1, -0.1


def rectified_sigmoid(V: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""A sigmoid stretched past 0 and 1 and cut there, equation (3) of this module.

    $$ h(v) = \mathrm{clip}\bigl( \sigma(v)(\zeta - \gamma) + \gamma,\ 0,\ 1 \bigr) $$

    where $\zeta = 1.1$ and $\gamma = -0.1$: h is 0 below v = -2.4 and 1 above 2.4.

    V: values of any shape.  Returns numbers in [0, 1] of the same shape.
    Raises ValueError for an empty, NaN or infinite V.
    Source: Nagel et al. 2020, eq. (23); Louizos et al. 2018.  Notebook: 03_2_quantization.
    """
    check_tensor("rectified_sigmoid", "V", V)
    return (V.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def rounding_regularizer(h: Float[Tensor, "*shape"], beta: float) -> Float[Tensor, ""]:
    r"""How undecided the relaxed roundings are, equation (4) of this module.

    $$ f = \sum_i \bigl( 1 - |2 h_i - 1|^\beta \bigr) $$

    where $\beta$ > 0 sets how far from 0 and 1 the push begins.

    h: numbers in [0, 1].  Returns a number from 0 (all decided) to the number of values (all at 1/2).
    Raises ValueError for h outside [0, 1] or beta <= 0.
    Source: Nagel et al. 2020, eq. (24).  Notebook: 03_2_quantization.
    """
    check_tensor("rounding_regularizer", "h", h)
    check_number("rounding_regularizer", "beta", beta, above=0)
    if bool(((h < 0) | (h > 1)).any()):
        raise ValueError("rounding_regularizer: every h must lie in [0, 1]; it says how far a weight is rounded up")
    return (1 - (2 * h - 1).abs() ** beta).sum()


def output_error(W: Float[Tensor, "out in"], W_hat: Float[Tensor, "out in"], X: Float[Tensor, "n in"]) -> float:
    r"""Mean squared error that quantized weights cause at a linear layer's output, equation (1) of this module.

    $$ \frac1n \sum_{k=1}^{n} \bigl\| (W - \hat W)\, x_k \bigr\|^2 $$

    where $x_k$ is row k of X; the sum over outputs is not divided by their number.

    Returns the error in the squared unit of the output.
    Raises ValueError for empty, NaN or infinite input or shapes that do not fit.
    Source: Nagel et al. 2020, eq. (21).  Notebook: 03_2_quantization.
    """
    check_tensor("output_error", "W", W, ndim=2)
    check_tensor("output_error", "W_hat", W_hat, like=W)
    _check_inputs("output_error", W, X)
    return float((X.double() @ (W - W_hat).double().T).square().sum() / len(X))


def adaround(
    W: Float[Tensor, "out in"],
    X: Float[Tensor, "n in"],
    s: Float[Tensor, "..."] | float,
    z: Integer[Tensor, "..."] | int = 0,
    n_bits: int = 4,
    signed: bool = True,
    n_steps: int = 500,
    lr: float = 0.02,
    strength: float = 10.0,
) -> Integer[Tensor, "out in"]:
    r"""Codes of a linear layer, each weight rounded up or down for the sake of the output, equations (2) to (5).

    $$ \min_{v}\ \frac{\mathbb{E}\|(W - W_{soft})x\|^2}{\mathbb{E}\|(W - W_{near})x\|^2} + \frac{\lambda}{n} f(v) $$

    where $\lambda$ = `strength`, and Adam with learning rate `lr` takes `n_steps` steps from the v at which $W_{soft} = W$.

    W: weights.  X: calibration inputs of this layer, one a row.  s, z: as for `quantize`.
    Returns codes, each the floor or the ceiling of w/s (+ z), clipped; the same for the same input, every time.
    Raises ValueError for empty, NaN or infinite input, shapes that do not fit, s <= 0 or impossible settings.
    Source: Nagel et al. 2020, eq. (21)-(24).  Notebook: 03_2_quantization.
    """
    check_tensor("adaround", "W", W, ndim=2)
    _check_inputs("adaround", W, X)
    _check_qparams("adaround", W, s, z)
    check_count("adaround", "n_steps", n_steps)
    check_number("adaround", "lr", lr, above=0)
    check_number("adaround", "strength", strength, low=0)
    q_min, q_max = integer_range(n_bits, signed)
    W = W.detach()
    Sigma = (X.detach().T @ X.detach()) / len(X)  # (in, in)
    down = (W / s).floor()

    def error(W_hat: Tensor) -> Tensor:
        D = W - W_hat
        return ((D @ Sigma) * D).sum()

    nearest = quantize(W, s, z, n_bits, signed)
    error_nearest = float(error(dequantize(nearest, s, z)))
    if error_nearest <= 0:  # nothing to gain: W lies on the grid, or the inputs are all zero
        return nearest
    V = _undo_sigmoid((W / s) - down).requires_grad_()
    optimizer = torch.optim.Adam([V], lr=lr)
    for step in range(n_steps):
        h = rectified_sigmoid(V)
        loss = error(((down + h + z).clamp(q_min, q_max) - z) * s) / error_nearest
        if step >= n_steps // 5:
            loss = loss + strength / W.numel() * rounding_regularizer(h, _beta(step, n_steps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    up = rectified_sigmoid(V.detach()) > 0.5
    return (down + up + z).clamp(q_min, q_max).to(nearest.dtype)


def _undo_sigmoid(h: Tensor) -> Tensor:
    """The v with rectified_sigmoid(v) = h."""
    share = (h - GAMMA) / (ZETA - GAMMA)  # within [1/12, 11/12], so both logarithms are finite
    return (share / (1 - share)).log()


def _beta(step: int, n_steps: int) -> float:
    """From 20 down to 2 on a straight line, over the steps that have the regularizer."""
    progress = (step - n_steps // 5) / max(1, n_steps - n_steps // 5 - 1)
    return 20 + (2 - 20) * progress


def _check_inputs(who: str, W: Tensor, X: Tensor) -> None:
    """Refuse calibration inputs that are no (n, in) matrix for these weights."""
    check_tensor(who, "X", X, ndim=2)
    if X.shape[1] != W.shape[1]:
        raise ValueError(f"{who}: X must have {W.shape[1]} columns, one an input of W, got shape {tuple(X.shape)}")
