r"""Pictures of weights, digits and trade-offs, in one style that a colour-blind reader and a projector can both use.

Every chapter draws the same few pictures, so they are drawn here once: a grid of digits, the histogram of a layer's weights,
a matrix with its zeros marked, curves over steps or sizes, and the plane of cost against error. Colours come from Tableau's
ten-colour cycle for colour-blind readers, and no figure relies on colour alone: curves carry distinct markers, pruned cells
carry a cross.

    (1)  density of a histogram bar  =  n_bar / (n width)       so that layers of any size share one vertical axis
    (2)  colour range of a matrix    =  [-max|w|, +max|w|]      so that white is exactly zero
    (3)  front  =  { i : no j has cost_j <= cost_i and error_j < error_i, nor cost_j < cost_i and error_j <= error_i }

Each function draws into `ax` when it is given one (a widget's figure, one panel of several) and otherwise makes a new figure;
it returns the Axes, so a notebook may add its own lines. What is left out: interactive plotting libraries, and error bands
(pass the low and high curve as two curves). Only Matplotlib is used, and texts in figures are English.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from course_lib._check import check_tensor

COLORS: tuple[str, ...] = tuple(plt.style.library["tableau-colorblind10"]["axes.prop_cycle"].by_key()["color"])
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
STYLE = {
    "figure.figsize": (9, 3.5),
    "figure.constrained_layout.use": True,
    "savefig.dpi": 100,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 7,
}


def use_course_style() -> None:
    """Switch Matplotlib to the course's colours, sizes and grid, for the rest of the notebook.

    Source: Matplotlib's style sheet `tableau-colorblind10`.  Notebook: 00_start_here, 01_background.
    """
    plt.style.use(["default", "tableau-colorblind10", STYLE])


def digit_grid(
    images: Tensor, titles: Sequence[str] | None = None, n_columns: int = 10, side: int = 28, ax: Axes | None = None
) -> Axes:
    """Show images of `side` x `side` pixels in rows of `n_columns`, dark ink on white, each with a title if titles are given.

    images: (n, side * side) or (n, side, side), brightness in [0, 1].  titles: n short texts.
    Raises ValueError where an image has another number of pixels, or titles and images differ in number.
    Source: the layout of figure 4 in LeCun et al., 1998, "Gradient-based learning applied to document recognition".
    Notebook: 00_start_here.
    """
    check_tensor("digit_grid", "images", images)
    n = len(images)
    if images.numel() != n * side * side:
        raise ValueError(f"digit_grid: {n} images of {side} x {side} pixels expected, got shape {tuple(images.shape)}")
    if titles is not None and len(titles) != n:
        raise ValueError(f"digit_grid: {n} images but {len(titles)} titles")
    n_columns = min(n, n_columns)
    n_rows = math.ceil(n / n_columns)
    gap_x, gap_y = 4, 12 if titles is not None else 4
    canvas = np.full((n_rows * (side + gap_y), n_columns * (side + gap_x)), np.nan)
    ax = ax or _new_axes(0.9 * n_columns, 0.9 * n_rows * (side + gap_y) / (side + gap_x))
    for k, image in enumerate(images.detach().reshape(n, side, side).numpy()):
        y, x = (k // n_columns) * (side + gap_y) + gap_y, (k % n_columns) * (side + gap_x)
        canvas[y : y + side, x : x + side] = image
        if titles is not None:
            ax.text(x + side / 2, y - 2, titles[k], ha="center", va="bottom", fontsize=10)
    ax.imshow(canvas, cmap="gray_r", vmin=0, vmax=1)
    ax.set_axis_off()
    return ax


def weight_histogram(
    W: Tensor, thresholds: Mapping[str, float] | None = None, n_bins: int = 101, ax: Axes | None = None
) -> Axes:
    """Draw the density of the weights, eq. (1), with a pair of vertical lines at +-t for each named threshold.

    W: weights of any shape, in their own unit.  thresholds: name -> t >= 0, drawn at -t and +t.
    Raises ValueError for an empty tensor, NaN or an infinite weight.
    Source: histogram as density estimate.  Notebook: 00_start_here.
    """
    check_tensor("weight_histogram", "W", W)
    ax = ax or _new_axes()
    ax.hist(W.detach().flatten().double().numpy(), bins=n_bins, density=True, color=COLORS[0], alpha=0.6)
    for k, (name, t) in enumerate((thresholds or {}).items(), start=1):
        color, dashes = COLORS[k % len(COLORS)], ("--", ":", "-.")[k % 3]
        ax.axvline(t, color=color, linestyle=dashes, label=f"{name}: ±{t:.3g}")
        ax.axvline(-t, color=color, linestyle=dashes)
    ax.set(xlabel="weight", ylabel="density")
    if thresholds:
        ax.legend()
    return ax


def matrix(
    W: Tensor, mask: Tensor | None = None, title: str = "", annotate: bool | None = None, ax: Axes | None = None
) -> Axes:
    """Show a weight matrix as colours, white at zero, eq. (2); a cross marks each weight that the mask takes away.

    W: (out, in).  mask: (out, in) boolean, `True` = the weight stays.  annotate: write the numbers
    (by default where there are at most 64).
    Raises ValueError where W has not two dimensions or the mask another shape.
    Source: diverging colour map of Brewer, "RdBu".  Notebook: 00_start_here.
    """
    check_tensor("matrix", "W", W, ndim=2)
    n_rows, n_columns = W.shape
    kept = np.ones(W.shape, dtype=bool)
    if mask is not None:
        check_tensor("matrix", "mask", mask, like=W)
        kept = mask.detach().numpy().astype(bool)
    values = W.detach().double().numpy()
    limit = float(abs(values).max()) or 1.0
    ax = ax or _new_axes(min(9.0, 1.5 + 0.7 * n_columns), min(5.0, 1.0 + 0.5 * n_rows))
    picture = ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.figure.colorbar(picture, ax=ax)
    small = W.numel() <= 64
    ink = np.where(abs(values) > 0.6 * limit, "white", "black")
    for i, j in zip(*np.nonzero(~kept)):
        if small:
            x, y = (j - 0.42, j + 0.42, np.nan, j - 0.42, j + 0.42), (i - 0.42, i + 0.42, np.nan, i + 0.42, i - 0.42)
            ax.plot(x, y, color=ink[i, j], linewidth=1, alpha=0.7)
        else:
            ax.plot(j, i, marker="x", color="black", markersize=3, markeredgewidth=1, linestyle="none")
    if annotate if annotate is not None else small:
        for (i, j), value in np.ndenumerate(values):  # in front of the cross, on a patch of the cell's colour
            patch = None if kept[i, j] else {"facecolor": picture.to_rgba(value), "edgecolor": "none", "pad": 1.5}
            ax.text(j, i, f"{value:.2g}", ha="center", va="center", color=ink[i, j], bbox=patch)
    if small:
        ax.set(xticks=range(n_columns), yticks=range(n_rows))
    ax.grid(False)
    ax.set(xlabel="input j", ylabel="output i", title=title)
    return ax


def curves(
    lines: Mapping[str, Sequence],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw one labelled curve per entry: `{label: y}` over 0, 1, 2, ... or `{label: (x, y)}`, markers on about ten points each.

    Raises ValueError for no curves, or an x and a y of different lengths.
    Source: house style (DESIGN: distinct markers).  Notebook: 01_background.
    """
    if not lines:
        raise ValueError("curves: no curves were given; pass {label: y} or {label: (x, y)}")
    ax = ax or _new_axes()
    for k, (label, data) in enumerate(lines.items()):
        x, y = data if isinstance(data, tuple) else (range(len(data)), data)
        x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"curves: {label!r} has x of shape {x.shape} and y of shape {y.shape}; both must be one row")
        ax.plot(x, y, label=label, color=COLORS[k % 10], marker=MARKERS[k % 10], markevery=max(1, len(x) // 10))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    ax.legend()
    return ax


def tradeoff(
    points: Mapping[str, tuple],
    xlabel: str = "size (bytes)",
    ylabel: str = "test error (%)",
    title: str = "",
    log_x: bool = True,
    front: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Plot cost against error, `{method: (costs, errors)}` with numbers or sequences, and the front of eq. (3) as grey steps.

    Less is better on both axes: the best models sit at the lower left, and the front is the border of what is reached.
    Raises ValueError for no points, or costs and errors of different lengths.
    Source: Pareto dominance (Pareto, 1906).  Notebook: 03_2_quantization.
    """
    if not points:
        raise ValueError("tradeoff: no points were given; pass {method: (costs, errors)}")
    ax = ax or _new_axes()
    everything = []
    for k, (label, (costs, errors)) in enumerate(points.items()):
        x, y = np.atleast_1d(np.asarray(costs, dtype=float)), np.atleast_1d(np.asarray(errors, dtype=float))
        if x.shape != y.shape:
            raise ValueError(f"tradeoff: {label!r} has {x.size} costs and {y.size} errors")
        ax.plot(x, y, linestyle="none", label=label, color=COLORS[k % 10], marker=MARKERS[k % 10])
        everything += zip(x.tolist(), y.tolist())
    if front and len(everything) > 1:
        best = _front(everything)
        ax.step(*zip(*best), where="post", color="0.6", linewidth=1, zorder=0, label="front")
    if log_x:
        ax.set_xscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend()
    return ax


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point dominates, eq. (3), by rising cost."""
    best: list[tuple[float, float]] = []
    for cost, error in sorted(set(points)):
        if not best or error < best[-1][1]:
            best.append((cost, error))
    return best


def _new_axes(width: float | None = None, height: float | None = None) -> Axes:
    return plt.subplots(figsize=(width, height) if width and height else None)[1]
