r"""The interactive figure of chapter 2.2: a step size and a momentum in a valley, and whether theory knew what would happen.

The valley is the smallest problem that has everything: two weights, two curvatures, and a ratio between them.

    (1)  L(w)  =  ( a_1 w_1^2 + a_2 w_2^2 ) / 2,     a_1 = 1,  a_2 = the ratio (how narrow the valley is)
    (2)  |w_t| ~ rho^t,   rho = the larger contraction of the two directions
    (3)  steps to shrink the distance to a share `tolerance`  =  ln(tolerance) / ln(rho)        if rho < 1

The left panel draws the path of the real optimizer, the right panel its distance to the bottom beside the line that (2)
predicts. The line starts where the path starts; what the figure is about is that the slopes agree.
"""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from course_lib._check import check_count, check_number
from course_lib.optimizers import SGD, contraction
from course_lib.plots import COLORS
from course_lib.widgets._base import figure_image, new_figure, update_image

START = (-4.0, 1.0)
FAR = 1e6  # a path further out than this many starting distances is called diverged


@dataclass(frozen=True)
class Descent:
    """A walk in the valley: its path, its predicted contraction, and the steps to the bottom, predicted and counted.

    path: (n_steps + 1, 2).  rho: factor per step.  predicted_steps, measured_steps: None where it never arrives.

    Source: eqs. (2) and (3) of this file.  Notebook: 02_2_training.
    """

    path: Float[Tensor, "n 2"]
    rho: float
    predicted_steps: float | None
    measured_steps: int | None


def valley_values(
    lr: float, momentum: float = 0.0, nesterov: bool = False, ratio: float = 20.0, n_steps: int = 400, tolerance: float = 1e-3
) -> Descent:
    r"""Walk down the valley with the course's own SGD, and predict the walk, eqs. (1)-(3).

    $$ L(w) = \tfrac12 (w_1^2 + a\, w_2^2), \qquad n = \frac{\ln \text{tolerance}}{\ln \rho} $$

    ratio: a, the larger curvature, >= 1 (the smaller is 1).  measured_steps: the first step after which the distance to the
    bottom stays below `tolerance` times the distance of the start. A path that gets a million times farther is cut there.

    Raises ValueError for impossible settings.
    Source: Polyak 1964, section 3.  Notebook: 02_2_training.
    """
    check_number("valley_values", "ratio", ratio, low=1.0)
    check_number("valley_values", "tolerance", tolerance, above=0.0)
    check_count("valley_values", "n_steps", n_steps)
    curvatures = torch.tensor([1.0, ratio], dtype=torch.float64)
    W = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([W], lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)
    path = [W.detach().clone()]
    for _ in range(n_steps):
        W.grad = curvatures * W.detach()  # the gradient of (1)
        optimizer.step()
        path.append(W.detach().clone())
        if float(path[-1].norm()) > FAR * float(path[0].norm()):
            break
    rho = max(contraction(lr, float(a), momentum, nesterov) for a in curvatures)
    predicted = None if rho >= 1 else 0.0 if rho == 0 else max(0.0, math.log(tolerance) / math.log(rho))
    walked = torch.stack(path)
    above = (walked.norm(dim=1) > tolerance * walked[0].norm()).nonzero()
    last = int(above[-1]) if len(above) else -1
    return Descent(walked, rho, predicted, None if last == len(walked) - 1 else last + 1)


def describe(walk: Descent) -> str:
    """One line: the contraction, and the steps to the bottom, predicted and counted.

    Source: eqs. (2) and (3) of this file.  Notebook: 02_2_training.
    """
    never = walk.predicted_steps is None
    fate = "predicted: never arrives" if never else f"predicted: {walk.predicted_steps:.0f} steps"
    counted = f"{walk.measured_steps} steps" if walk.measured_steps is not None else f"not within {len(walk.path) - 1} steps"
    return f"contraction {walk.rho:.3f} a step; {fate}; measured: {counted}"


def valley_figure(walk: Descent, ratio: float = 20.0, title: str = "") -> Figure:
    """The path over the level lines of the valley, and the distance to the bottom beside its prediction; returns the Figure.

    Source: eqs. (1) and (2) of this file.  Notebook: 02_2_training.
    """
    figure, (left, right) = new_figure(2)
    x, y = np.meshgrid(np.linspace(-5, 5, 120), np.linspace(-2, 2, 120))
    loss = (x**2 + ratio * y**2) / 2
    left.contour(x, y, loss, levels=np.geomspace(0.05, loss.max(), 10), colors="0.75", linewidths=0.8)
    path = walk.path.numpy()
    left.plot(*path.T, color=COLORS[0], marker="o", markersize=3, linewidth=1, label="path")
    left.plot(0, 0, color=COLORS[1], marker="*", markersize=14, linestyle="none", label="bottom")
    left.set(xlim=(-5, 5), ylim=(-2, 2), xlabel="$w_1$ (flat direction)", ylabel="$w_2$ (steep direction)", title=title)
    left.legend(loc="upper right")
    distance = np.linalg.norm(path, axis=1)
    steps = np.arange(len(path))
    with np.errstate(under="ignore"):
        predicted = distance[0] * walk.rho**steps
    right.plot(steps, np.maximum(distance, 1e-12), color=COLORS[0], label="measured")
    label = f"predicted: {walk.rho:.3f} a step"
    right.plot(steps, np.clip(predicted, 1e-12, 1e12), color=COLORS[1], linestyle="--", label=label)
    right.set(xlabel="step", ylabel="distance to the bottom", yscale="log", ylim=(1e-6, 1e4))
    arrived = np.nonzero(distance < 1e-6)[0]
    right.set_xlim(0, max(20, int(arrived[0]) if len(arrived) else len(path) - 1))
    right.set_title(describe(walk).split("; ")[2])
    right.legend(loc="upper right")
    return figure


def valley_explorer(lr: float = 0.05, momentum: float = 0.0, ratio: float = 20.0) -> widgets.VBox:
    """Sliders for the learning rate, the momentum and the narrowness of the valley; below, the path and the prediction.

    Raises ValueError for values outside the sliders' ranges, as `valley_values` does.
    Source: Goh 2017 (Distill, "Why momentum really works") has a figure of this kind.  Notebook: 02_2_training.
    """
    options = {"continuous_update": False, "style": {"description_width": "110px"}}
    rate = widgets.FloatLogSlider(value=lr, base=10, min=-3, max=0.5, step=0.05, description="learning rate", **options)
    heavy = widgets.FloatSlider(value=momentum, min=0.0, max=0.98, step=0.01, description="momentum", **options)
    narrow = widgets.IntSlider(value=int(ratio), min=1, max=100, step=1, description="curvature ratio", **options)
    ahead = widgets.Checkbox(value=False, description="Nesterov")
    text = widgets.Label()

    def draw() -> Figure:
        walk = valley_values(rate.value, heavy.value, ahead.value, float(narrow.value))
        limit = 2 * (1 + heavy.value) / narrow.value if not ahead.value else None
        text.value = describe(walk) + (f"; the limit of the learning rate is {limit:.3g}" if limit else "")
        return valley_figure(walk, float(narrow.value))

    image = figure_image(draw())
    for control in (rate, heavy, narrow, ahead):
        control.observe(lambda change: update_image(image, draw()), names="value")
    return widgets.VBox([widgets.HBox([rate, heavy]), widgets.HBox([narrow, ahead]), text, image])
