r"""The interactive figure of chapter 2.1: two limits, and the model each of them chooses.

Compressed models form a cloud in the plane of bytes and error. Nobody needs most of it:

    (1)  i dominates j   if   bytes_i <= bytes_j  and  error_i <= error_j,  one of them strictly
    (2)  front  =  { i : no j dominates i }
    (3)  within a limit on bytes take the fewest errors; within a limit on the error take the fewest bytes

(3) always lands on the front (2), whatever the limit: that is the front's whole use. The error that chooses is the one on the
validation set; the error that is reported is the one on the test set, with its interval. The figure shows both.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import ipywidgets as widgets
from matplotlib.ticker import FixedLocator, NullLocator

from course_lib._check import check_count, check_fraction, check_number
from course_lib.measure import accuracy_interval
from course_lib.plots import COLORS, tradeoff
from course_lib.widgets._base import figure_image, new_figure, redraw_on_change, update_image


class Candidate(NamedTuple):
    """A model to choose from: its file and its errors, on the set that chooses and on the set that judges.

    size_bytes: length of its file.  validation_errors, test_errors: wrong answers among n images each.
    Source: bookkeeping.  Notebook: 02_1_core_concepts.
    """

    name: str
    family: str
    size_bytes: int
    validation_errors: int
    test_errors: int


def pareto_front(costs: Sequence[float], errors: Sequence[float]) -> list[int]:
    r"""Indices of what nothing dominates, eq. (2), by rising cost; equal points are all kept.

    $$ \text{front} = \{\, i : \nexists j :\; (c_j \le c_i \wedge e_j < e_i) \vee (c_j < c_i \wedge e_j \le e_i) \,\} $$

    costs, errors: less is better on both, any units.
    Raises ValueError for lists of different length, or NaN.
    Source: Pareto 1906.  Notebook: 02_1_core_concepts.
    """
    if len(costs) != len(errors):
        raise ValueError(f"pareto_front: {len(costs)} costs and {len(errors)} errors; each model needs both")
    for i, (cost, error) in enumerate(zip(costs, errors)):
        check_number("pareto_front", f"costs[{i}]", cost)
        check_number("pareto_front", f"errors[{i}]", error)
    points = list(zip(costs, errors))
    front, best = [], float("inf")
    for i in sorted(range(len(points)), key=points.__getitem__):
        if errors[i] < best or (front and points[front[-1]] == points[i]):
            front.append(i)
            best = errors[i]
    return front


def choice_values(
    candidates: Sequence[Candidate], n: int, max_bytes: float, max_error: float
) -> tuple[Candidate | None, Candidate | None]:
    r"""The two choices of eq. (3): (fewest errors within `max_bytes`, fewest bytes within `max_error`); None if nothing fits.

    $$ \arg\min_{i :\, \mathrm{bytes}_i \le \text{limit}} \mathrm{errors}_i, \qquad
       \arg\min_{i :\, \mathrm{errors}_i / n \le \text{limit}} \mathrm{bytes}_i $$

    Only validation errors are looked at. Ties go to the smaller file, or to fewer errors.
    n: validation images.  max_bytes: bytes.  max_error: a fraction.
    Raises ValueError for n < 1, a negative limit, or an error limit above 1.
    Source: the epsilon-constraint method, Haimes et al. 1971.  Notebook: 02_1_core_concepts.
    """
    check_count("choice_values", "n", n)
    check_number("choice_values", "max_bytes", max_bytes, low=0)
    check_fraction("choice_values", "max_error", max_error)
    small = [c for c in candidates if c.size_bytes <= max_bytes]
    good = [c for c in candidates if c.validation_errors <= max_error * n]
    return (
        min(small, key=lambda c: (c.validation_errors, c.size_bytes), default=None),
        min(good, key=lambda c: (c.size_bytes, c.validation_errors), default=None),
    )


def choice_text(chosen: Candidate | None, n_test: int) -> str:
    """One line about a chosen model: file, errors on both sets, and the interval of its error rate.

    Source: `accuracy_interval`.  Notebook: 02_1_core_concepts.
    """
    if chosen is None:
        return "nothing fits"
    low, high = accuracy_interval(n_test - chosen.test_errors, n_test)
    return (
        f"{chosen.name}: {chosen.size_bytes:,} bytes, {chosen.validation_errors} validation errors; "
        f"test error {chosen.test_errors / n_test:.2%}, 95 % interval {1 - high:.2%} to {1 - low:.2%}"
    )


def choice_figure(candidates: Sequence[Candidate], n: int, max_bytes: float, max_error: float):
    """The cloud by families with its front, both limits, and a ring around each chosen model; returns the Figure.

    Source: `tradeoff`.  Notebook: 02_1_core_concepts.
    """
    figure, (axes,) = new_figure(size=(9, 4))
    families = {c.family: ([], []) for c in candidates}
    for c in candidates:
        families[c.family][0].append(c.size_bytes)
        families[c.family][1].append(100 * c.validation_errors / n)
    tradeoff(families, ylabel="validation error (%)", ax=axes)
    axes.axvspan(max_bytes, 10 * max(c.size_bytes for c in candidates), color=COLORS[7], alpha=0.15)
    axes.axhline(100 * max_error, color=COLORS[7], linestyle=":")
    by_size, by_error = choice_values(candidates, n, max_bytes, max_error)
    for chosen, area, color, label in (
        (by_size, 260, COLORS[1], "fewest errors within the size"),
        (by_error, 520, COLORS[0], "smallest within the error"),
    ):
        if chosen:
            point = chosen.size_bytes, 100 * chosen.validation_errors / n
            axes.scatter(*point, s=area, facecolors="none", edgecolors=color, linewidths=2, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0.7 * min(c.size_bytes for c in candidates), 1.5 * max(c.size_bytes for c in candidates))
    axes.legend(fontsize=9)
    return figure


def pareto_explorer(candidates: Sequence[Candidate], n: int, n_test: int | None = None) -> widgets.VBox:
    """Two sliders (largest file, largest validation error), the two models that they choose, and the cloud.

    n, n_test: images in the validation and in the test set.
    Source: eq. (3).  Notebook: 02_1_core_concepts.
    """
    sizes = [c.size_bytes for c in candidates]
    errors = [100 * c.validation_errors / n for c in candidates]
    options = {"continuous_update": False, "style": {"description_width": "initial"}, "layout": widgets.Layout(width="48%")}
    size = widgets.FloatLogSlider(  # files differ by factors, so equal steps would crowd the small ones together
        value=sorted(sizes)[len(sizes) // 2] / 1000,
        min=math.log10(0.8 * min(sizes) / 1000),
        max=math.log10(1.2 * max(sizes) / 1000),
        step=0.02,
        readout_format=".1f",
        description="file at most (kB)",
        **options,
    )
    error = widgets.FloatSlider(
        value=round(sorted(errors)[len(errors) // 2], 1),
        min=0,
        max=round(max(errors) + 0.1, 1),
        step=0.1,
        readout_format=".1f",
        description="error at most (%)",
        **options,
    )
    text, image = widgets.HTML(), figure_image(choice_figure(candidates, n, 1000 * size.value, error.value / 100))

    def redraw():
        limits = 1000 * size.value, error.value / 100
        by_size, by_error = choice_values(candidates, n, *limits)
        text.value = (
            f"<b>fewest errors in {size.value:.1f} kB:</b> {choice_text(by_size, n_test or n)}<br>"
            f"<b>smallest with at most {error.value:.1f} %:</b> {choice_text(by_error, n_test or n)}"
        )
        update_image(image, choice_figure(candidates, n, *limits))

    redraw_on_change([size, error], redraw)
    return widgets.VBox([widgets.HBox([size, error]), text, image])
