r"""Folding a batch normalization into the layer before it (section 4.2): the same function, one operation less, exactly.

In eval mode batch normalization is a fixed affine map of each channel, and an affine map behind a linear one is linear again:

    (1)  y_i   =  gamma_i (u_i - mu_i) / sqrt(var_i + eps) + beta_i,        u = W x + b        two operations
    (2)  a_i   =  gamma_i / sqrt(var_i + eps)
    (3)  W'_i  =  a_i W_i            row i, with all its inputs
         b'_i  =  beta_i + a_i (b_i - mu_i)                                                    y = W' x + b', one

Nothing is approximated: in exact arithmetic both sides are equal, in float32 they differ by roundings. It has to come *before*
quantization, because the integers must hold the numbers that are multiplied, and those are the W' of (3). There lies the
trouble of depthwise networks too: a_i differs from channel to channel, so the rows of W' differ in range more than those of W.

Left out: a normalization *before* a layer (with zero padding it cannot be folded exactly: the border sees 0, not beta), and
folding during training, where mu and var are those of the batch (Jacob et al. 2018, section 3.2).
Production: `torch.nn.utils.fusion.fuse_conv_bn_eval` does (3) for one pair; the tests hold ours equal to it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_number, check_tensor

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
FOLDS_INTO = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norm(
    W: Float[Tensor, "out *rest"],
    bias: Float[Tensor, "out"] | None,
    gamma: Float[Tensor, "out"],
    beta: Float[Tensor, "out"],
    mean: Float[Tensor, "out"],
    var: Float[Tensor, "out"],
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "out *rest"], Float[Tensor, "out"]]:
    r"""Weights and bias of one layer that does the work of a layer and the normalization behind it, equations (2) and (3).

    $$ a_i = \frac{\gamma_i}{\sqrt{\sigma_i^2 + \epsilon}}, \qquad W'_i = a_i W_i, \qquad b'_i = \beta_i + a_i (b_i - \mu_i) $$

    where $\mu_i$ = `mean`, $\sigma_i^2$ = `var` are the running statistics of channel i, and $b_i = 0$ where there is no bias.

    W: weights (out, ...), of a linear layer or a convolution of any number of groups.  The others: one number a channel.
    Returns new weights and a new bias, of the type of W, computed in double precision.
    Raises ValueError for empty, NaN or infinite input, shapes that do not fit, a negative variance, or var + eps = 0.
    Source: Ioffe and Szegedy 2015, algorithm 2; Jacob et al. 2018, eq. (14).  Notebook: 04_2_quantization_in_practice.
    """
    who = "fold_batch_norm"
    check_tensor(who, "W", W)
    check_tensor(who, "gamma", gamma, ndim=1)
    if W.ndim < 2 or len(W) != len(gamma):
        raise ValueError(f"{who}: W must have {len(gamma)} rows, one a channel, got shape {tuple(W.shape)}")
    bias = torch.zeros_like(gamma) if bias is None else bias
    for name, value in (("bias", bias), ("beta", beta), ("mean", mean), ("var", var)):
        check_tensor(who, name, value, like=gamma)
    check_number(who, "eps", eps, low=0.0)
    if bool((var.double() + eps <= 0).any()) or bool((var < 0).any()):
        raise ValueError(f"{who}: var is a variance: it must be >= 0, and var + eps > 0; smallest {float(var.min())!r}")
    a = gamma.double() / (var.double() + eps).sqrt()
    folded = a.reshape(-1, *[1] * (W.ndim - 1)) * W.double()
    return folded.to(W.dtype), (beta.double() + a * (bias.double() - mean.double())).to(W.dtype)


def fold_batch_norms(model: nn.Sequential) -> nn.Sequential:
    r"""A new network in eval mode without batch normalizations: each was folded into the layer right before it.

    $$ \mathrm{norm}(W x + b) \to W' x + b' $$

    by `fold_batch_norm`. Layers are numbered anew, since those of the normalizations are gone. Other layers are shared with
    the given model only where they hold no parameters.

    model: an `nn.Sequential`; it is not changed.
    Raises TypeError for what is no `nn.Sequential`; ValueError for a normalization that does not directly follow a linear
    layer or a convolution, that keeps no running statistics, or whose layer carries a parametrized weight.
    Source: Jacob et al. 2018, section 3.2.  Notebook: 04_2_quantization_in_practice.
    """
    who = "fold_batch_norms"
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"{who}: model must be an nn.Sequential, whose order of layers is known, got {type(model).__name__}")
    layers: list[nn.Module] = []
    before = None
    for name, layer in model.named_children():
        if isinstance(layer, BATCH_NORMS):
            if not isinstance(before, FOLDS_INTO):
                raise ValueError(f"{who}: layer {name} follows no linear layer or convolution, so it cannot be folded")
            layers[-1] = _folded(who, name, before, layer)
        else:
            layers.append(_copied(layer) if isinstance(layer, FOLDS_INTO) else layer)
        before = layer
    return nn.Sequential(*layers).eval()


@torch.no_grad()
def _folded(who: str, name: str, layer: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer for the two."""
    if norm.running_var is None:
        raise ValueError(f"{who}: layer {name} keeps no running statistics; it normalizes by the batch and is no fixed map")
    ones = torch.ones_like(norm.running_var)
    gamma, beta = (ones, 0 * ones) if norm.weight is None else (norm.weight, norm.bias)
    W, bias = fold_batch_norm(layer.weight, layer.bias, gamma, beta, norm.running_mean, norm.running_var, norm.eps)
    merged = _copied(layer)
    merged.weight, merged.bias = nn.Parameter(W), nn.Parameter(bias)
    return merged


@torch.no_grad()
def _copied(layer: nn.Module) -> nn.Module:
    """The same layer with parameters of its own. (deepcopy would keep hooks.)"""
    if parametrize.is_parametrized(layer):
        raise ValueError("fold_batch_norms: a weight is parametrized; call make_permanent(model) first")
    if isinstance(layer, nn.Linear):
        copied = nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features, bias=layer.bias is not None)
    else:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        settings = {name: getattr(layer, name) for name in names}
        copied = nn.utils.skip_init(type(layer), **settings, bias=layer.bias is not None)
    copied.weight = nn.Parameter(layer.weight.clone())
    if layer.bias is not None:
        copied.bias = nn.Parameter(layer.bias.clone())
    return copied.eval()
