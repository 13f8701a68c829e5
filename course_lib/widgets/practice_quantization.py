r"""One scale for channels of very different size, live (chapter 4.2).

    (1)  W1_i / s_i,   s_i W2_{:,i},   s_i = 2^(u_i),   u_i uniform in [-octaves, octaves]    the same function, other weights
    (2)  ratio  =  max_i r_i / median_i r_i,   r_i = max |W_i|                           how unequal the rows are
    (3)  lost   =  share of rows with r_i < step / 2                                      all weights of such a row become 0

The slider spreads the channels of a network without changing what it computes, as training is free to do. Rounding with one
scale a tensor then loses the small rows; equalization finds the even network again, whatever the spread was.
"""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib._check import check_number
from course_lib.measure import accuracy
from course_lib.plots import COLORS
from course_lib.quantization import equalize, quantize_layers, rescale_channels, weight_qparams
from course_lib.widgets._base import figure_image, new_figure, redraw_on_change, update_image

AFFINE = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class EqualizationValues:
    """Numbers behind the picture: `ranges` of the rows of one layer, its `step`, the `ratio` and share `lost` of eq. (2) and
    (3), and the `accuracy` of the whole network.

    Source: eq. (1) to (3) of this file.  Notebook: 04_2_quantization_in_practice.
    """

    ranges: Float[Tensor, "rows"]
    step: float
    ratio: float
    lost: float
    accuracy: float


def spread_channels(model: nn.Sequential, octaves: float, seed: int = 0) -> nn.Sequential:
    r"""The same function with channels of other sizes, eq. (1).

    $$ s_i = 2^{u_i}, \qquad u_i \sim U(-\text{octaves}, \text{octaves}) $$

    octaves: 0 leaves the weights as they are.  Returns a new model; the given one is not changed.
    Raises ValueError for negative octaves, and as `rescale_channels`.
    Source: Nagel et al. 2019, section 4.1.1.  Notebook: 04_2_quantization_in_practice.
    """
    check_number("spread_channels", "octaves", octaves, low=0.0)
    layers = [layer for layer in model if isinstance(layer, AFFINE)]
    g = torch.Generator().manual_seed(seed)
    factors = {k: torch.exp2(octaves * (2 * torch.rand(len(W.weight), generator=g) - 1)) for k, W in enumerate(layers[:-1])}
    return rescale_channels(model, factors)


def equalization_values(
    model: nn.Sequential,
    X: Float[Tensor, "n n_inputs"],
    labels: Int[Tensor, "n"],
    octaves: float,
    n_bits: int = 8,
    equalized: bool = False,
    layer: int = 3,
) -> EqualizationValues:
    r"""What one scale a tensor makes of a spread network, eq. (1) to (3).

    $$ \mathrm{ratio} = \max_i r_i \,/\, \mathrm{median}_i\, r_i $$

    model: batch normalizations folded.  equalized: equalize after spreading.  layer: which layer with weights is
    looked at; 3 is the second depthwise one of `depthwise_cnn`, whose rows are spread on both sides.
    Raises ValueError for a layer that is not there, and as `spread_channels`, `quantize_layers`, `accuracy`.
    Source: Nagel et al. 2019, figure 2.  Notebook: 04_2_quantization_in_practice.
    """
    spread = spread_channels(model, octaves)
    spread = equalize(spread) if equalized else spread
    layers = [m for m in spread if isinstance(m, AFFINE)]
    if layer not in range(len(layers)):
        raise ValueError(f"equalization_values: there is no layer {layer!r}; the model has layers 0 to {len(layers) - 1}")
    W = layers[layer].weight.detach()
    ranges = W.abs().flatten(1).amax(1)
    step = float(weight_qparams(W, n_bits)[0])
    lost = float((ranges < step / 2).double().mean())
    ratio = float(ranges.max() / ranges.median())
    return EqualizationValues(ranges, step, ratio, lost, accuracy(quantize_layers(spread, n_bits, "tensor"), X, labels))


def equalization_explorer(
    model: nn.Sequential, X: Float[Tensor, "n n_inputs"], labels: Int[Tensor, "n"], layer: int = 3
) -> widgets.VBox:
    """Interactive: spread the channels, choose bits, equalize; see the rows of one layer and the accuracy.

    model: a network with its batch normalizations folded.  X, labels: what the accuracy is measured on.  layer: whose rows.
    Raises as `equalization_values`.
    Source: Nagel et al. 2019, figures 2 and 6.  Notebook: 04_2_quantization_in_practice.
    """
    octaves = widgets.FloatSlider(description="octaves", min=0, max=5, step=0.5, value=2, continuous_update=False)
    bits = widgets.IntSlider(description="bits", min=2, max=8, value=8, continuous_update=False)
    even = widgets.ToggleButtons(description="weights", options=[("spread", False), ("equalized", True)], value=False)
    picture, text = figure_image(new_figure()[0]), widgets.HTML()
    dense = accuracy(model, X, labels)

    def redraw() -> None:
        values = equalization_values(model, X, labels, octaves.value, bits.value, even.value, layer)
        figure, (ax,) = new_figure()
        draw_rows(ax, values)
        update_image(picture, figure)
        text.value = (
            f"Largest row {values.ratio:.1f} times the median row; {values.lost:.0%} of the rows become 0."
            f" Accuracy {values.accuracy:.2%} (float {dense:.2%}) on {len(labels):,} images."
        )

    redraw_on_change([octaves, bits, even], redraw)
    return widgets.VBox([octaves, bits, even, picture, text])


def draw_rows(ax, values: EqualizationValues) -> None:
    """Draw the largest weight of each row, and half a step of the common grid: what stays below it becomes 0.

    Source: Nagel et al. 2019, figure 2.  Notebook: 04_2_quantization_in_practice.
    """
    ax.bar(range(len(values.ranges)), values.ranges.numpy(), color=COLORS[0])
    ax.axhline(values.step / 2, color=COLORS[1], linestyle="--", label="half a step")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(yscale="log", xlabel="channel", ylabel="largest |w| of the row", title=f"largest / median = {values.ratio:.1f}")
    ax.legend()
