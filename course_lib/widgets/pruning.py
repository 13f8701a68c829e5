r"""The interactive figure of chapter 3.1: move a threshold over the histogram of a network's weights and watch its accuracy.

The weights of each layer are drawn in units of that layer's mean magnitude, so one number c is the threshold of every layer:

    (1)  go  =  { w : |w| < c * mean|w| }            the mean over the layer's whole tensor
    (2)  the network that is judged multiplies by W * mask; the model given is not changed

The left panel shows which part of the distribution goes, the right one what is left of the accuracy, on a curve through all
factors. Both answer the same question twice: how much can go before the network notices?
"""

import ipywidgets as widgets
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from course_lib.measure import accuracy
from course_lib.plots import COLORS, weight_histogram
from course_lib.pruning import mean_threshold_mask, prunable_weights
from course_lib.widgets._base import figure_image, new_figure, update_image

ALL_LAYERS = "all layers"
CURVE = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


class _Masked(nn.Module):
    """The model with some weights replaced for the time of a call, eq. (2)."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]):
        super().__init__()
        self.model, self.weights = model, weights

    def forward(self, x: Tensor) -> Tensor:
        return functional_call(self.model, self.weights, (x,))


def _chosen(model: nn.Module, layer: str) -> dict[str, Tensor]:
    weights = prunable_weights(model)
    if layer != ALL_LAYERS and layer not in weights:
        raise ValueError(f"threshold_values: unknown layer {layer!r}; known: {ALL_LAYERS!r}, {', '.join(map(repr, weights))}")
    return weights if layer == ALL_LAYERS else {layer: weights[layer]}


def threshold_values(
    model: nn.Module, images: Float[Tensor, "n n_pixels"], labels: Int[Tensor, "n"], c: float, layer: str = ALL_LAYERS
) -> tuple[float, float]:
    r"""What the figure shows for one position of the slider: (share of the chosen weights that go, accuracy), eq. (1) and (2).

    model: any network with Linear or Conv layers, not masked; not changed.  images, labels: what the accuracy is measured on.
    c: threshold in units of the layer's mean magnitude, >= 0.  layer: a key of `prunable_weights(model)`, or "all layers".
    Raises ValueError for an unknown layer or a negative `c`.
    Source: the document, section 3.1, with one mean a layer.  Notebook: 03_1_weight_pruning.
    """
    chosen = _chosen(model, layer)
    masks = {name: mean_threshold_mask(W, c, per_row=False) for name, W in chosen.items()}
    n_gone = sum(int((~mask).sum()) for mask in masks.values())
    pruned = _Masked(model, {name: W * masks[name] for name, W in chosen.items()})
    return n_gone / sum(W.numel() for W in chosen.values()), accuracy(pruned, images, labels)


def threshold_figure(in_units: Tensor, c: float, share: float, right: float, curve: dict[float, tuple[float, float]]):
    """Draw the two panels: histogram with the threshold, and accuracy against the share that goes; returns the Figure.

    in_units: weights divided by their layer's mean magnitude.  curve: c -> (share, accuracy) at some factors.
    Source: `weight_histogram`.  Notebook: 03_1_weight_pruning.
    """
    figure, (left, axes) = new_figure(2)
    weight_histogram(in_units.clamp(-5, 5), {"c": c}, ax=left)
    left.axvspan(-c, c, color=COLORS[1], alpha=0.2)
    left.set(xlabel="weight / mean magnitude of its layer", title=f"{share:.1%} of the weights go")
    axes.plot([100 * s for s, _ in curve.values()], [100 * a for _, a in curve.values()], color=COLORS[0], label="c = 0 ... 3")
    axes.plot(100 * share, 100 * right, marker="o", markersize=12, color=COLORS[1], linestyle="none", label=f"c = {c:.1f}")
    axes.set(xlabel="weights that go (%)", ylabel="accuracy (%)", xlim=(-2, 102), ylim=(0, 102), title=f"accuracy {right:.1%}")
    axes.legend(loc="lower left")
    return figure


def threshold_explorer(
    model: nn.Module, images: Float[Tensor, "n n_pixels"], labels: Int[Tensor, "n"], c: float = 1.0
) -> widgets.VBox:
    """A slider for the factor c, a choice of the layer, a line with the numbers, and the two panels.

    About 2,000 images keep each move below a tenth of a second.
    Raises ValueError for a negative `c`.
    Source: the document, section 3.1.  Notebook: 03_1_weight_pruning.
    """
    weights = prunable_weights(model)
    names = widgets.Dropdown(options=[ALL_LAYERS, *weights], value=ALL_LAYERS, description="weights")
    slider = widgets.FloatSlider(value=c, min=0, max=3, step=0.1, description="factor c", continuous_update=False)
    text, curves = widgets.Label(), {}

    def draw():
        layer = names.value
        if layer not in curves:
            curves[layer] = {c: threshold_values(model, images, labels, c, layer) for c in CURVE}
        share, right = threshold_values(model, images, labels, slider.value, layer)
        text.value = f"c = {slider.value:.1f}: {share:.1%} of {layer} go, {right:.1%} of {len(labels):,} images right"
        units = [(W / W.abs().mean().clamp_min(torch.finfo(W.dtype).tiny)).flatten() for W in _chosen(model, layer).values()]
        return threshold_figure(torch.cat(units), slider.value, share, right, curves[layer])

    image = figure_image(draw())
    for control in (slider, names):
        control.observe(lambda change: update_image(image, draw()), names="value")
    return widgets.VBox([widgets.HBox([slider, names]), text, image])
