r"""The interactive figure of chapter 4.1: a sparsity for each layer by hand, against one threshold for the whole network.

Each slider takes its layer's smallest weights, and nothing trains:

    (1)  share     =  sum_l round(p_l n_l) / sum_l n_l         of all weights
    (2)  accuracy  =  that of the network with all these masks at once

The left panel shows where each slider stands on the scan of its layer, pruned alone. The right one shows what all of them do
together, beside the curve of `global_masks`. Try to beat the curve: the layer with the most weights decides the share, the
layer with the steepest scan decides the accuracy.
"""

import copy
from collections.abc import Mapping

import ipywidgets as widgets
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.measure import accuracy
from course_lib.plots import COLORS, MARKERS
from course_lib.pruning import attach_masks, budget_masks, global_masks, magnitude_score, prunable_weights
from course_lib.widgets._base import figure_image, new_figure, update_image

CURVE = (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)


def _masked_accuracy(model: nn.Module, masks: dict[str, Tensor], images: Tensor, labels: Tensor) -> float:
    masked = copy.deepcopy(model)
    attach_masks(masked, masks)
    return accuracy(masked, images, labels)


def budget_values(
    model: nn.Module, images: Float[Tensor, "n n_pixels"], labels: Int[Tensor, "n"], budgets: Mapping[str, float]
) -> tuple[float, float]:
    r"""What the figure shows for one position of the sliders: (share of all weights that go, accuracy), eq. (1) and (2).

    model: any network with Linear or Conv layers, not masked; not changed.  images, labels: what the accuracy is measured on.
    budgets: {weight name: fraction}, all layers of the model.
    Raises ValueError for other layers or what is no fraction.
    Source: Han et al. 2015, section 5: a threshold a layer.  Notebook: 04_1_pruning_in_practice.
    """
    scores = {name: magnitude_score(W) for name, W in prunable_weights(model).items()}
    masks = budget_masks(scores, budgets)
    n_gone = sum(int((~mask).sum()) for mask in masks.values())
    right = _masked_accuracy(model, masks, images, labels)
    return n_gone / sum(mask.numel() for mask in masks.values()), right


def budget_figure(
    scan: Mapping[str, Mapping[float, float]],
    budgets: Mapping[str, float],
    share: float,
    right: float,
    curve: Mapping[float, float],
):
    """Draw the two panels: the scan with a ring for each layer's budget, and the whole against `curve`; returns the Figure.

    scan: as `sensitivity_scan` returns it.  curve: {sparsity: accuracy} of one threshold for the whole network.
    Source: Han et al. 2015, figure 6.  Notebook: 04_1_pruning_in_practice.
    """
    figure, (left, axes) = new_figure(2)
    for k, (name, points) in enumerate(scan.items()):
        p, error = zip(*sorted(points.items()))
        left.plot([100 * x for x in p], [100 * e for e in error], color=COLORS[k], marker=MARKERS[k], label=name)
        left.axvline(100 * budgets[name], color=COLORS[k], linestyle=":")
    left.set(xlabel="sparsity of this layer alone (%)", ylabel="error (%)", title="one layer at a time; dotted: your choice")
    left.legend(loc="upper left")
    axes.plot([100 * p for p in curve], [100 * a for a in curve.values()], color="0.5", label="one threshold for all")
    axes.plot(100 * share, 100 * right, marker="o", markersize=12, color=COLORS[3], linestyle="none", label="your choice")
    axes.set(xlabel="weights that go, of all (%)", ylabel="accuracy (%)", xlim=(-2, 102), ylim=(0, 102))
    axes.set_title(f"together: {share:.1%} go, accuracy {right:.1%}")
    axes.legend(loc="lower left")
    return figure


def budget_explorer(
    model: nn.Module,
    images: Float[Tensor, "n n_pixels"],
    labels: Int[Tensor, "n"],
    scan: Mapping[str, Mapping[float, float]],
    start: float = 0.9,
) -> widgets.VBox:
    """A slider for the sparsity of each layer, a line with the numbers, and the two panels.

    About 2,000 images keep each move at a tenth of a second.
    Raises ValueError for a scan of other layers, or a `start` that is no fraction.
    Source: Han et al. 2015, section 5.  Notebook: 04_1_pruning_in_practice.
    """
    scores = {name: magnitude_score(W) for name, W in prunable_weights(model).items()}
    if set(scan) != set(scores):
        raise ValueError(f"budget_explorer: the scan names {list(scan)}, the model has {list(scores)}; scan this model")
    budget_values(model, images, labels, dict.fromkeys(scores, start))  # refuses a bad start
    curve = {p: _masked_accuracy(model, global_masks(scores, p), images, labels) for p in CURVE}
    sliders = {
        name: widgets.FloatSlider(value=start, min=0, max=1, step=0.01, description=name, continuous_update=False)
        for name in scores
    }
    text = widgets.Label()

    def draw():
        budgets = {name: slider.value for name, slider in sliders.items()}
        share, right = budget_values(model, images, labels, budgets)
        text.value = f"{share:.1%} of all weights go, {right:.1%} of {len(labels):,} images right"
        return budget_figure(scan, budgets, share, right, curve)

    image = figure_image(draw())
    for slider in sliders.values():
        slider.observe(lambda change: update_image(image, draw()), names="value")
    return widgets.VBox([widgets.HBox(list(sliders.values())), text, image])
