r"""Bits and granularity against error, bytes and accuracy, live (chapter 3.2).

    (1)  R    =  bits a weight, scales counted              `quantized_bits` / number of weights
    (2)  D    =  mean (w - w_hat)^2                          of one layer
    (3)  D(R) =  sigma^2 2^(-2R)                             the least error at that rate, were the weights Gaussian
    (4)  gap  =  R - (1/2) log2(sigma^2 / D)                 bits a weight paid above the bound

The plane of rate and error is the map on which every quantizer of this chapter is a point. The figure moves one of them:
fewer bits go left and up along a line of 6.02 dB a bit; smaller groups go down (a scale fits better) and right (it costs bits).
The accuracy is that of the whole network with every layer quantized in the same way, on the images given.

Left out: codebooks and entropy-coded quantizers, which the static figure of the chapter's last section adds.
"""

import copy
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib._check import check_tensor
from course_lib.measure import n_errors
from course_lib.plots import COLORS, MARKERS
from course_lib.quantization import (
    fake_quantize_weights,
    gaussian_distortion_rate,
    quantized_bits,
    rate_gap_bits,
    signal_to_noise_db,
)
from course_lib.widgets._base import figure_image, new_figure, redraw_on_change, update_image

BITS = range(2, 9)


@dataclass(frozen=True)
class QuantizationValues:
    """Numbers behind the picture: `rate_bits` a weight, `distortion`, `bound` (both over the variance), `gap_bits`, `snr_db`,
    `size_bytes`.

    Source: eq. (1) to (4) of this file.  Notebook: 03_2_quantization.
    """

    rate_bits: float
    distortion: float
    bound: float
    gap_bits: float
    snr_db: float
    size_bytes: int


def quantization_values(
    W: Float[Tensor, "out in"], n_bits: int, granularity: str = "tensor", group_size: int = 32, clip: str = "max"
) -> QuantizationValues:
    r"""Where a layer, quantized in one way, stands on the plane of rate and error, eq. (1) to (4).

    $$ \mathrm{gap} = R - \tfrac12 \log_2 \frac{\sigma^2}{D} $$

    where $\sigma^2$ is the mean square of the weights, so that a layer of any size has the same map.

    Raises ValueError for all-zero weights (no signal, no ratio), NaN, an unknown granularity or an impossible `n_bits`.
    Source: Shannon 1959; Cover and Thomas 2006, theorem 10.3.2.  Notebook: 03_2_quantization.
    """
    check_tensor("quantization_values", "W", W, ndim=2)
    variance = float(W.double().square().mean())
    if variance == 0:
        raise ValueError("quantization_values: all weights are zero, so there is no signal to compare the error with")
    W_hat = fake_quantize_weights(W, n_bits, True, granularity, group_size, clip)
    bits = quantized_bits(tuple(W.shape), n_bits, True, granularity, group_size)
    rate_bits = bits / W.numel()
    distortion = max(float((W.double() - W_hat.double()).square().mean()), 1e-30) / variance
    return QuantizationValues(
        rate_bits,
        distortion,
        gaussian_distortion_rate(rate_bits),
        rate_gap_bits(distortion, rate_bits),
        signal_to_noise_db(W, W_hat),
        -(-bits // 8),
    )


def quantized_copy(
    model: nn.Module, n_bits: int, granularity: str = "tensor", group_size: int = 32, clip: str = "max"
) -> nn.Module:
    r"""A copy of the network in which the weights of every linear layer lie on their grids; biases stay.

    $$ W \leftarrow \hat W $$

    where $\hat W$ is `fake_quantize_weights` of W.  Returns a new model; the given one is not changed.
    Raises ValueError as `fake_quantize_weights`.
    Source: Krishnamoorthi 2018, section 3.1 (weights only).  Notebook: 03_2_quantization.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(fake_quantize_weights(layer.weight, n_bits, True, granularity, group_size, clip))
    return model


def quantization_explorer(
    model: nn.Module, X: Float[Tensor, "n n_inputs"], labels: Int[Tensor, "n"], layer: str = "0"
) -> widgets.VBox:
    """Interactive: choose bits, granularity and clipping; see the grid, the place on the map of rate and error, the accuracy.

    model: a network of linear layers, in eval mode.  X, labels: what the accuracy is measured on.  layer: the name of the layer
    whose weights are drawn.
    Raises ValueError for a name that is no linear layer of the model, or X and labels that do not fit.
    Source: the map of rate and distortion, Shannon 1959.  Notebook: 03_2_quantization.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if layer not in layers:
        raise ValueError(f"quantization_explorer: {layer!r} is no linear layer of the model; known: {', '.join(layers)}")
    check_tensor("quantization_explorer", "X", X, ndim=2)
    W, n_dense = layers[layer].weight.detach(), n_errors(model, X, labels)
    bits = widgets.IntSlider(description="bits", min=BITS[0], max=BITS[-1], value=4, continuous_update=False)
    granularity = widgets.ToggleButtons(description="one scale a", options=["tensor", "row", "group"], value="tensor")
    group_size = widgets.SelectionSlider(
        description="group of", options=[8, 16, 32, 64, 128], value=32, continuous_update=False, disabled=True
    )
    clip = widgets.ToggleButtons(description="range", options=[("largest weight", "max"), ("least error", "mse")], value="max")
    picture, text = figure_image(new_figure(2)[0]), widgets.HTML()
    lines: dict[tuple, list[QuantizationValues]] = {}

    def redraw() -> None:
        settings = granularity.value, group_size.value if granularity.value == "group" else 32, clip.value
        group_size.disabled = granularity.value != "group"
        if settings not in lines:
            lines[settings] = [quantization_values(W, b, *settings) for b in BITS]
        values = lines[settings][bits.value - BITS[0]]
        n_wrong = n_errors(quantized_copy(model, bits.value, *settings), X, labels)
        # A new figure each time: the automatic layout of a reused one depends on what it showed before.
        figure, axes = new_figure(2)
        _draw_weights(axes[0], W, fake_quantize_weights(W, bits.value, True, *settings))
        _draw_map(axes[1], lines[settings], values)
        update_image(picture, figure)
        text.value = (
            f"{bits.value} bits, one scale a {granularity.value}: {values.rate_bits:.3f} bits a weight with the scales,"
            f" {values.size_bytes:,} bytes. Error {values.distortion:.2e} of the variance ({values.snr_db:.1f} dB),"
            f" {values.gap_bits:.2f} bits above D(R)."
            f" Accuracy {1 - n_wrong / len(labels):.2%} (dense {1 - n_dense / len(labels):.2%}) on {len(labels):,} images."
        )

    redraw_on_change([bits, granularity, group_size, clip], redraw)
    return widgets.VBox([widgets.HBox([bits, group_size]), granularity, clip, picture, text])


def _draw_weights(ax, W: Tensor, W_hat: Tensor) -> None:
    """The density of the weights, and how many of them each reconstructed value of the first row stands for."""
    limit = float(W.abs().max())
    ax.hist(W.flatten().numpy(), bins=101, range=(-limit, limit), density=True, color=COLORS[0], alpha=0.5, label="weights")
    for k, value in enumerate(W_hat[0].unique().tolist()):
        ax.axvline(value, color=COLORS[1], linewidth=0.8, label="levels in use, row 0" if k == 0 else None)
    ax.set(xlabel="weight", ylabel="density", xlim=(-1.05 * limit, 1.05 * limit))
    ax.legend(loc="upper right", fontsize=9)


def _draw_map(ax, line: list[QuantizationValues], here: QuantizationValues) -> None:
    """Rate against error, 2 to 8 bits of this setting, and the bound."""
    rates = np.linspace(1.5, 9.5, 50)
    ax.plot(rates, [gaussian_distortion_rate(float(r)) for r in rates], color="0.4", linestyle="--", label="bound D(R)")
    ax.plot([v.rate_bits for v in line], [v.distortion for v in line], color=COLORS[0], marker=MARKERS[0], label="2 to 8 bits")
    ax.plot([here.rate_bits], [here.distortion], color=COLORS[1], marker="*", markersize=17, linestyle="none", label="here")
    ax.set(
        yscale="log", xlabel="rate (bits a weight, scales counted)", ylabel="error / variance", xlim=(1.5, 9.5), ylim=(1e-6, 2)
    )
    ax.legend(fontsize=9)
