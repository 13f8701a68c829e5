r"""What a teacher says of a digit, seen at any temperature (chapter 3.3).

    (1)  p_c  =  softmax(v / T)_c                         the bars
    (2)  H    =  - sum_c p_c log2 p_c                      how much the teacher leaves open, in bits (log2 C at most)
    (3)  2^H                                               the same as a number of classes: 1 = certain, C = no idea
    (4)  1 - max_c p_c                                     share of the answer that a hard label throws away

The figure takes images and logits that are there already: it asks no network, so a move of the slider costs one drawing.
Left out: the student. Its loss at each temperature is measured in the chapter.
"""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib._check import check_tensor
from course_lib.distillation import soft_targets
from course_lib.plots import COLORS
from course_lib.widgets._base import figure_image, new_figure, redraw_on_change, update_image


@dataclass(frozen=True)
class TemperatureValues:
    """Numbers behind the picture: `shares` (C fractions), `entropy_bits`, `n_effective` classes, `dark_share`, `runner_up`.

    Source: eq. (1) to (4) of this file.  Notebook: 03_3_knowledge_distillation.
    """

    shares: list[float]
    entropy_bits: float
    n_effective: float
    dark_share: float
    first: int
    runner_up: int


def temperature_values(logits: Float[Tensor, "C"], T: float | int) -> TemperatureValues:
    r"""Soft targets of one sample at temperature T and what they leave open, eq. (1) to (4).

    $$ H = -\sum_c p_c \log_2 p_c, \qquad n_{\text{effective}} = 2^H $$

    where $p = \mathrm{softmax}(v/T)$ and $v$ are the teacher's logits.

    Raises ValueError for fewer than two classes, NaN, or T <= 0.
    Source: Hinton et al. 2015, eq. (1); entropy: Shannon 1948.  Notebook: 03_3_knowledge_distillation.
    """
    check_tensor("temperature_values", "logits", logits, ndim=1)
    if len(logits) < 2:
        raise ValueError(f"temperature_values: {len(logits)} class has no runner-up; at least 2 are needed")
    p = soft_targets(logits.double()[None], T)[0]  # (C)
    entropy_bits = float(-torch.special.xlogy(p, p).sum() / torch.log(torch.tensor(2.0)).item())
    first, runner_up = logits.topk(2).indices.tolist()
    return TemperatureValues(p.tolist(), entropy_bits, 2**entropy_bits, float(1 - p[first]), first, runner_up)


def temperature_explorer(
    images: Float[Tensor, "n n_pixels"], teacher_logits: Float[Tensor, "n C"], labels: Int[Tensor, "n"]
) -> widgets.VBox:
    """Interactive: choose a digit, turn the temperature, watch its soft targets and how much they leave open.

    images: rows of 784 brightnesses in [0, 1].  teacher_logits: nats.  labels: class numbers.
    Raises ValueError where the three differ in length, or for NaN.
    Source: Hinton et al. 2015, section 2.  Notebook: 03_3_knowledge_distillation.
    """
    for name, X in (("images", images), ("teacher_logits", teacher_logits)):
        check_tensor("temperature_explorer", name, X, ndim=2)
    if not len(images) == len(teacher_logits) == len(labels):
        n = (len(images), len(teacher_logits), len(labels))
        raise ValueError(f"temperature_explorer: {n[0]} images, {n[1]} rows of logits and {n[2]} labels must be equally many")
    options = [(f"no. {i + 1}, a {int(y)}", i) for i, y in enumerate(labels)]
    which = widgets.Dropdown(description="digit", options=options, value=0)
    temperature = widgets.FloatLogSlider(
        description="T", base=10, min=-0.5, max=2, step=0.05, value=1.0, readout_format=".2f", continuous_update=False
    )
    figure, (left, right) = new_figure(2)
    picture, text = figure_image(figure), widgets.HTML()

    def redraw() -> None:
        i, T = which.value, temperature.value
        values = temperature_values(teacher_logits[i], T)
        left.clear()
        left.imshow(images[i].reshape(28, 28).numpy(), cmap="gray_r", vmin=0, vmax=1)
        left.set_axis_off()
        left.set_title(f"labelled {int(labels[i])}")
        right.clear()
        right.bar(range(len(values.shares)), values.shares, color=COLORS[0])
        right.set(
            xlabel="class", ylabel="share", ylim=(0, 1.05), xticks=range(len(values.shares)), title=f"teacher at T = {T:.2f}"
        )
        update_image(picture, figure)
        text.value = (
            f"T = {T:.2f}: {values.shares[values.first]:.1%} for {values.first}, {values.shares[values.runner_up]:.1%} for"
            f" {values.runner_up}. Left open: {values.entropy_bits:.2f} bits, as much as an even choice among"
            f" {values.n_effective:.2f} classes. A hard label throws away {values.dark_share:.1%}."
        )

    redraw_on_change([which, temperature], redraw)
    return widgets.VBox([widgets.HBox([which, temperature]), picture, text])
