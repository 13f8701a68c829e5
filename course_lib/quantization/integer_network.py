r"""A whole network in integers, and the same network simulated in real numbers (section 4.2).

A chain of layers becomes codes, accumulators, codes, accumulators...:

    (1)  q_1  =  quantize(x)                                   the only float operation, at the door
    (2)  acc  =  integer layer(q_l)                             `integer_linear`, `integer_conv2d`, bias in int32
    (3)  acc  <-  max(acc, 0),  sum over the map,  reshape      what lies between two layers, on the accumulators, exactly
    (4)  q_{l+1}  =  requantize(acc),   M_i = s_l s_w,i / (k s_{l+1})        k = places of the map where a mean was taken

The last accumulators, times their scales, are the logits. `simulate` computes the same in double precision with real numbers,

    (5)  x_hat = s (q - z),   y = W_hat x_hat + b_hat,   q_{l+1} = clip(round(y / s_{l+1}) + z_{l+1})

as fake quantization does in training. Are they equal? (4) rounds M to 31 bits. We give that rounding to the weights' scales,
s_w,i <- M s_{l+1} / s_l (a change of 2^-31, below what float32 can write), so (5) uses the multiplier that (4) has, and the
codes agree to the last integer, up to values that lie within 1e-13 of a tie.

Left out: branches and additions (both sides need a common scale, Jacob et al. 2018, appendix A.2), max-pooling.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from course_lib._check import check_n_bits, check_tensor
from course_lib.quantization.affine import quantize
from course_lib.quantization.granularity import weight_qparams
from course_lib.quantization.integer import (
    fixed_point_multiplier,
    integer_conv2d,
    integer_linear,
    quantize_bias,
    requantize,
)

AFFINE = (nn.Linear, nn.Conv2d)
BETWEEN = (nn.ReLU, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)


@dataclass(frozen=True)
class IntegerLayer:
    """One linear layer or convolution in integers: `q_w` int8, `q_bias` int32, scales, and how to come to the next codes.

    `s_x`, `z_x`: scale and zero point of its input.  `s_w`: (out) scales of its rows.  `M0`, `n`: the multiplier to the next
    layer's codes, (out) each, None for the last layer.  `settings`: stride, padding, groups of a convolution, None if linear.
    `after`: the layers without weights that follow.

    Source: Jacob et al. 2018, section 2.  Notebook: 04_2_quantization_in_practice.
    """

    q_w: Tensor
    q_bias: Tensor
    s_x: float
    z_x: int
    s_w: Tensor
    M0: Tensor | None
    n: Tensor | None
    settings: dict | None
    after: tuple[nn.Module, ...]


class IntegerNetwork(nn.Module):
    r"""A network whose layers compute with integers only, equations (1) to (4); `simulate` is its twin in real numbers, (5).

    $$ q_{l+1} = \mathrm{clip}\bigl( \mathrm{round}(M_0 2^{-n}\, \mathrm{acc}_l) + z_{l+1} \bigr) $$

    model: an `nn.Sequential` of linear layers, convolutions, ReLU, global average pooling and reshaping; batch normalizations
    folded.  qparams: (s, z) of the input of each layer, as `calibration.input_qparams(..., signed=False)` gives them.
    example: one sample, by which the sizes of the maps are learned.  granularity: "row" or "tensor", for the weights.
    Called like a model: images in, logits out. The model is not changed.
    Raises TypeError for what is no `nn.Sequential`; ValueError for a layer that cannot be done, or one without qparams.
    Source: Jacob et al. 2018, section 2.  Notebook: 04_2_quantization_in_practice.
    """

    def __init__(self, model: nn.Sequential, qparams: dict, example: Tensor, n_bits: int = 8, granularity: str = "row"):
        super().__init__()
        check_n_bits("IntegerNetwork", n_bits, 2, 8)
        check_tensor("IntegerNetwork", "example", example)
        named = _checked("IntegerNetwork", model, qparams)
        self.n_bits, self.first = n_bits, tuple(layer for _, layer in named[: _start(named)])
        self.layers: list[IntegerLayer] = []
        blocks = _blocks(named)
        x = _apply(self.first, example[:1])
        for k, (name, layer, after) in enumerate(blocks):
            y = layer(x).detach()
            x, n_places = _apply(after, y), _places(after, y)
            following = qparams[blocks[k + 1][0]] if k + 1 < len(blocks) else None
            self.layers.append(_integer_layer(layer, after, qparams[name], following, n_places, n_bits, granularity))

    def codes(self, X: Float[Tensor, "B *shape"]) -> tuple[list[Integer[Tensor, "..."]], Float[Tensor, "B out"]]:
        """The codes that enter each layer, and the logits; between the two only integers were computed with."""
        q = quantize(_apply(self.first, X).double(), self.layers[0].s_x, self.layers[0].z_x, self.n_bits, signed=False)
        seen = []
        for k, layer in enumerate(self.layers):
            seen.append(q)
            if layer.settings is None:
                acc = integer_linear(q, layer.q_w, layer.z_x, layer.q_bias)
            else:
                acc = integer_conv2d(q, layer.q_w, layer.z_x, layer.q_bias, **layer.settings)
            if layer.M0 is None:
                return seen, _apply(layer.after, (acc * _to_rows(layer.s_x * layer.s_w, acc)).float())
            M0, n = _to_rows(layer.M0, acc).expand(acc[:1].shape), _to_rows(layer.n, acc).expand(acc[:1].shape)
            acc, M0, n = _sums(layer.after, acc), _first_place(layer.after, M0), _first_place(layer.after, n)
            q = requantize(acc, M0, n, self.layers[k + 1].z_x, self.n_bits, signed=False)
        raise AssertionError("the last layer has no multiplier")

    def simulate(self, X: Float[Tensor, "B *shape"]) -> tuple[list[Integer[Tensor, "..."]], Float[Tensor, "B out"]]:
        """The same codes and logits by real arithmetic in double precision, equation (5): what training would have seen."""
        x = _apply(self.first, X).double()
        seen = []
        for layer in self.layers:
            q = quantize(x, layer.s_x, layer.z_x, self.n_bits, signed=False)
            seen.append(q)
            x_hat = layer.s_x * (q.double() - layer.z_x)
            W_hat = layer.q_w.double() * layer.s_w.reshape(-1, *[1] * (layer.q_w.ndim - 1))
            b_hat = layer.q_bias.double() * layer.s_x * layer.s_w
            function = nn.functional.linear if layer.settings is None else nn.functional.conv2d
            x = _apply(layer.after, function(x_hat, W_hat, b_hat, **(layer.settings or {})))
        return seen, x.float()

    def forward(self, X: Float[Tensor, "B *shape"]) -> Float[Tensor, "B out"]:
        """Logits."""
        return self.codes(X)[1]


@torch.no_grad()
def _integer_layer(layer, after, qparams, following, n_places, n_bits, granularity) -> IntegerLayer:
    """Freeze one layer: codes, int32 biases, and the multiplier to the next layer's input."""
    s_x, z_x = float(qparams[0]), int(qparams[1])
    s_w, _ = weight_qparams(layer.weight, n_bits, True, granularity)
    q_w = quantize(layer.weight, s_w, 0, n_bits)
    s_w = s_w.double().flatten().expand(len(q_w)).clone()
    M0 = n = None
    if following is not None:
        s_y = float(following[0])
        M0, n = fixed_point_multiplier(s_x * s_w / (n_places * s_y))
        s_w = M0.double() * torch.exp2(-n.double()) * n_places * s_y / s_x  # the multiplier that will be used, to the last bit
    bias = torch.zeros(len(q_w)) if layer.bias is None else layer.bias.detach()
    names = ("stride", "padding")
    settings = None
    if isinstance(layer, nn.Conv2d):
        settings = {name: getattr(layer, name)[0] for name in names} | {"groups": layer.groups}
    return IntegerLayer(q_w, quantize_bias(bias, s_x, s_w), s_x, z_x, s_w, M0, n, settings, after)


def _checked(who: str, model: nn.Sequential, qparams: dict) -> list[tuple[str, nn.Module]]:
    """The named layers of the chain; refuses what has no integer form here."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"{who}: model must be an nn.Sequential, whose order of layers is known, got {type(model).__name__}")
    named = list(model.named_children())
    for name, layer in named:
        if not isinstance(layer, AFFINE + BETWEEN):
            cure = "; fold it first" if "BatchNorm" in type(layer).__name__ else ""
            raise ValueError(f"{who}: layer {name} ({type(layer).__name__}) has no integer form here{cure}")
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size not in (1, (1, 1)):
            raise ValueError(f"{who}: layer {name} must average over the whole map")
        if isinstance(layer, nn.Conv2d) and (isinstance(layer.padding, str) or layer.dilation != (1, 1)):
            raise ValueError(f"{who}: layer {name} needs its padding as a number, and no dilation")
        if isinstance(layer, nn.Conv2d) and any(len(set(pair)) > 1 for pair in (layer.stride, layer.padding)):
            raise ValueError(f"{who}: layer {name} needs the same stride and padding in both directions")
    affine = [name for name, layer in named if isinstance(layer, AFFINE)]
    if not affine or (missing := [name for name in affine if name not in qparams]):
        raise ValueError(f"{who}: no linear layer or convolution" if not affine else f"{who}: no qparams for layers {missing}")
    return named


def _start(named: list[tuple[str, nn.Module]]) -> int:
    """The position of the first layer with weights."""
    return next(i for i, (_, layer) in enumerate(named) if isinstance(layer, AFFINE))


def _blocks(named: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module, tuple[nn.Module, ...]]]:
    """(name, layer with weights, what follows it)."""
    at = [i for i, (_, layer) in enumerate(named) if isinstance(layer, AFFINE)] + [len(named)]
    return [(*named[i], tuple(layer for _, layer in named[i + 1 : j])) for i, j in pairwise(at)]


def _apply(layers: tuple[nn.Module, ...], x: Tensor) -> Tensor:
    """These layers in eval mode, on real numbers."""
    for layer in layers:
        if not isinstance(layer, nn.Dropout):
            x = layer(x)
    return x


def _sums(layers: tuple[nn.Module, ...], acc: Tensor) -> Tensor:
    """The same on accumulators: a mean becomes a sum, whose division by the number of places is in the multiplier."""
    acc = acc.to(torch.int64)
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            acc = acc.clamp(min=0)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            acc = acc.sum((2, 3), keepdim=True)
        elif not isinstance(layer, nn.Dropout):
            acc = layer(acc)
    return acc


def _first_place(layers: tuple[nn.Module, ...], x: Tensor) -> Tensor:
    """What is one number a channel, in the shape of the accumulators, led through the same layers."""
    for layer in layers:
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            x = x[:, :, :1, :1]
        elif isinstance(layer, nn.Flatten | nn.Unflatten):
            x = layer(x)
    return x


def _places(layers: tuple[nn.Module, ...], y: Tensor) -> int:
    """Over how many places a mean is taken; 1 without one."""
    return y.shape[2] * y.shape[3] if any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in layers) else 1


def _to_rows(values: Tensor, acc: Tensor) -> Tensor:
    """(out) -> (1, out, 1, ...), to broadcast over accumulators."""
    return values.reshape(1, -1, *[1] * (acc.ndim - 2))
