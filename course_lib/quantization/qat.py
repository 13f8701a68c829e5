r"""Quantization-aware training: a network that learns with the rounding in its way (section 3.2).

Post-training quantization rounds a finished network. Here each weight matrix W is replaced, in the forward pass only, by its
quantized image, while the optimizer keeps working on W itself:

    (1)  forward    y = x W_hat^T + b,   W_hat = Q(W)
    (2)  backward   dL/dW = dL/dW_hat inside the range (straight-through)
    (3)  update     W <- W - eta dL/dW                                             full precision, the "shadow" weights

Two images: a grid whose scale is computed from W (`attach_fake_quant`), and one whose scale is a parameter and
is learned (`attach_lsq`). `attach_input_quant` quantizes what enters each layer, with ranges found by the observers.
`make_permanent` ends the training: W becomes W_hat for good. Everything is done by `torch.nn.utils.parametrize`: reading
`layer.weight` gives W_hat, the trained tensor is `layer.parametrizations.weight.original`, and `model.parameters()` lists it
(with LSQ's scales), so that any optimizer and any loop work unchanged.

Left out: biases (16 or 32 bits in every integer kernel), embeddings, batch-norm folding (chapter 04_2). torch.ao's QAT does the
same with modules of its own (`FakeQuantize`), swapped in for Linear and Conv.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_choice, check_n_bits
from course_lib._parametrized import make_plain
from course_lib.quantization.fake_quant import fake_quantize
from course_lib.quantization.granularity import weight_qparams
from course_lib.quantization.lsq import lsq_initial_scale, lsq_quantize

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class FakeQuantWeight(nn.Module):
    r"""A parametrization: W goes in, W_hat comes out; the scale is computed, not learned.

    $$ \hat W = s\,\mathrm{clip}(\mathrm{round}(W/s)), \qquad s = s(W) \text{, a constant for the gradient} $$

    where s(W) is that of `weight_qparams` (symmetric). With `clip="max"` it follows the weights, step by step; with
    `clip="mse"` it is searched once, for the weights at the start, and stays (a search costs a hundred roundings).

    W: the weights at the start.  n_bits, granularity ("tensor" or "row"), clip: as for `weight_qparams`.
    Raises ValueError for an impossible `n_bits`, an unknown granularity or clip, bad weights.
    Source: Jacob et al. 2018, section 3.  Notebook: 03_2_quantization.
    """

    def __init__(self, W: Float[Tensor, "*shape"], n_bits: int = 8, granularity: str = "row", clip: str = "max"):
        super().__init__()
        check_n_bits("FakeQuantWeight", n_bits, 2, 16)
        check_choice("FakeQuantWeight", "granularity", granularity, ("tensor", "row"))
        check_choice("FakeQuantWeight", "clip", clip, ("max", "mse"))
        self.n_bits, self.granularity = n_bits, granularity
        searched = weight_qparams(W.detach(), n_bits, True, granularity, clip="mse")[0] if clip == "mse" else None
        self.register_buffer("fixed_scale", searched)

    def forward(self, W: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """W_hat, with the straight-through gradient to W."""
        s = self.fixed_scale
        if s is None:
            s, _ = weight_qparams(W.detach(), self.n_bits, True, self.granularity)
        return fake_quantize(W, s, 0, self.n_bits)


class LSQWeight(nn.Module):
    r"""A parametrization with one learned step size for the tensor.

    $$ \hat W = s\,\mathrm{round}(\mathrm{clip}(W/s, -Q_n, Q_p)), \qquad s = |\sigma| $$

    where $\sigma$ is the parameter `scale`, started at `lsq_initial_scale`. The absolute value (and a floor at the smallest
    normal number) keeps a large optimizer step from turning the grid round; for s > 0, where training stays, it does nothing.

    W: the weights at the start.  n_bits: 2 to 16, signed codes.
    Raises ValueError for an impossible `n_bits` or bad weights.
    Source: Esser et al. 2020, section 2.  Notebook: 03_2_quantization.
    """

    def __init__(self, W: Float[Tensor, "*shape"], n_bits: int = 4):
        super().__init__()
        self.n_bits = n_bits
        self.scale = nn.Parameter(lsq_initial_scale(W, n_bits))

    def forward(self, W: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """W_hat, with gradients to W and to the scale."""
        s = self.scale.abs().clamp(min=torch.finfo(W.dtype).tiny)
        return lsq_quantize(W, s, self.n_bits)


def attach_fake_quant(model: nn.Module, n_bits: int = 8, granularity: str = "row", clip: str = "max") -> nn.Module:
    r"""Put fake quantization on the weight of every linear and convolutional layer, in place.

    $$ y = x\,Q(W)^\top + b $$

    where Q is `FakeQuantWeight`.

    model: any network; it is changed.  Returns the same model, for chaining.
    Raises ValueError where the model has no such layer, or already carries a parametrized weight.
    Source: Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.2.  Notebook: 03_2_quantization.
    """
    for layer in _layers("attach_fake_quant", model):
        parametrize.register_parametrization(layer, "weight", FakeQuantWeight(layer.weight, n_bits, granularity, clip))
    return model


def attach_lsq(model: nn.Module, n_bits: int = 4) -> nn.Module:
    r"""Put a learned step size on the weight of every linear and convolutional layer, in place.

    $$ y = x\,Q_s(W)^\top + b, \qquad s \text{ trained with the weights} $$

    where $Q_s$ is `LSQWeight`. Make the optimizer afterwards: the scales are new parameters.

    model: any network; it is changed.  Returns the same model, for chaining.
    Raises ValueError where the model has no such layer, or already carries a parametrized weight.
    Source: Esser et al. 2020, section 2.  Notebook: 03_2_quantization.
    """
    for layer in _layers("attach_lsq", model):
        parametrize.register_parametrization(layer, "weight", LSQWeight(layer.weight, n_bits))
    return model


def make_permanent(model: nn.Module) -> nn.Module:
    r"""Replace each parametrized weight by its quantized value, in place, and take the machinery off.

    $$ W \leftarrow Q(W) $$

    where Q is whatever was attached. Afterwards the model is a plain network whose weights lie on their grids.

    model: changed.  Returns the same model, for chaining. A model without parametrizations stays as it is.
    Source: Jacob et al. 2018, section 3 (the graph for inference).  Notebook: 03_2_quantization.
    """
    for layer in model.modules():
        if isinstance(layer, LAYERS) and parametrize.is_parametrized(layer, "weight"):
            make_plain(layer)
    return model


def attach_input_quant(
    model: nn.Module,
    qparams: dict[str, tuple[Float[Tensor, ""], Integer[Tensor, ""]]],
    n_bits: int = 8,
    signed: bool = False,
) -> list[torch.utils.hooks.RemovableHandle]:
    r"""Fake-quantize what enters the named layers, in place.

    $$ y = Q(x)\,W^\top + b $$

    where Q is `fake_quantize` with the scale and zero point that an observer found for this layer.

    qparams: name of a layer, as in `model.named_modules()`, to (s, z).
    Returns the hooks; `handle.remove()` undoes each.
    Raises ValueError for a name that the model does not have.
    Source: Jacob et al. 2018, section 3.1.  Notebook: 03_2_quantization.
    """
    layers = dict(model.named_modules())
    if unknown := sorted(set(qparams) - set(layers)):
        raise ValueError(f"attach_input_quant: the model has no layer {unknown}; known: {sorted(filter(None, layers))}")

    def hook_for(s: Tensor, z: Tensor):
        return lambda layer, inputs: (fake_quantize(inputs[0], s, z, n_bits, signed), *inputs[1:])

    return [layers[name].register_forward_pre_hook(hook_for(s, z)) for name, (s, z) in qparams.items()]


def _layers(who: str, model: nn.Module) -> list[nn.Module]:
    """All layers whose weight can be quantized; refuses none, and weights that already have a parametrization."""
    layers = [m for m in model.modules() if isinstance(m, LAYERS)]
    if not layers:
        raise ValueError(f"{who}: the model has no Linear or Conv layer")
    if any(parametrize.is_parametrized(m, "weight") for m in layers):
        raise ValueError(f"{who}: a weight is already parametrized; call make_permanent(model) first")
    return layers
