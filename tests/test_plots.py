"""Pictures show what they are given: read back from the artists, not looked at."""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from course_lib import plots
from course_lib.plots import COLORS, MARKERS, curves, digit_grid, matrix, tradeoff, use_course_style, weight_histogram
from course_lib.widgets._base import figure_bytes, figure_image, new_figure, redraw_on_change, update_image


@pytest.fixture(autouse=True)
def _close_figures():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def drawable(ax):
    """Every picture must survive being drawn; many errors of Matplotlib show only then."""
    ax.figure.canvas.draw()
    return ax


def test_style_sets_the_colour_blind_cycle_and_readable_text():
    use_course_style()
    assert tuple(plt.rcParams["axes.prop_cycle"].by_key()["color"]) == COLORS and len(set(COLORS)) == len(set(MARKERS)) == 10
    assert plt.rcParams["font.size"] >= 11


def test_digit_grid_puts_each_image_where_it_belongs():
    images = torch.rand(7, 784)
    ax = drawable(digit_grid(images, titles=list("abcdefg"), n_columns=3))
    canvas = ax.images[0].get_array().filled(np.nan)
    assert np.array_equal(canvas[12:40, 0:28], images[0].reshape(28, 28).numpy())
    assert np.array_equal(canvas[12 + 40 : 80, 64:92], images[5].reshape(28, 28).numpy())
    assert [t.get_text() for t in ax.texts] == list("abcdefg")


def test_digit_grid_takes_square_images_and_a_single_one():
    drawable(digit_grid(torch.rand(1, 28, 28)))
    drawable(digit_grid(torch.zeros(2, 9), side=3))


@given(st.integers(1, 500), st.integers(0, 100))
def test_histogram_is_a_density(n, seed):
    """Eq. (1): the bars cover an area of one."""
    ax = weight_histogram(torch.randn(n, generator=torch.Generator().manual_seed(seed)), n_bins=9)
    assert abs(sum(p.get_height() * p.get_width() for p in ax.patches) - 1) < 1e-6
    plt.close("all")


def test_histogram_draws_each_threshold_on_both_sides():
    ax = drawable(weight_histogram(torch.randn(3, 4), {"mean": 0.5, "90 %": 1.2}))
    assert sorted(line.get_xdata()[0] for line in ax.lines) == [-1.2, -0.5, 0.5, 1.2]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["mean: ±0.5", "90 %: ±1.2"]


@pytest.mark.parametrize("W", [torch.zeros(2, 3), torch.ones(1, 1), torch.full((3, 2), -2.0)])
def test_constant_weights_can_be_drawn(W):
    drawable(weight_histogram(W)), drawable(matrix(W))


def test_matrix_has_white_at_zero_and_a_cross_on_each_pruned_weight():
    W = torch.tensor([[1.0, -3.0], [0.0, 2.0]])
    ax = drawable(matrix(W, mask=torch.tensor([[False, True], [False, True]])))
    assert ax.images[0].get_clim() == (-3.0, 3.0)  # eq. (2)
    assert matrix(torch.tensor([[1.0, 4.0]])).images[0].get_clim() == (-4.0, 4.0)
    assert {(np.nanmean(line.get_xdata()), np.nanmean(line.get_ydata())) for line in ax.lines} == {(0, 0), (0, 1)}
    assert [t.get_text() for t in ax.texts] == ["1", "-3", "0", "2"]
    assert ax.get_xlim() == (-0.5, 1.5) and ax.get_ylim() == (1.5, -0.5)  # a cross stays inside its cell


def test_matrix_keeps_the_number_of_a_pruned_weight_readable():
    """The number stands in front of its cross, on an opaque patch, and the patch leaves the ends of the cross visible."""
    ax = drawable(matrix(torch.tensor([[-0.25, -3.0, 0.0, 2.0]] * 3), mask=torch.tensor([[False, True, False, True]] * 3)))
    patches = [text.get_bbox_patch() for text in ax.texts]
    assert [patch is not None for patch in patches] == 3 * [True, False, True, False]
    crossed = [(text, patch) for text, patch in zip(ax.texts, patches) if patch is not None]
    for (text, patch), line in zip(crossed, ax.lines, strict=True):
        assert text.get_zorder() > line.get_zorder() and patch.get_facecolor()[3] == 1
        numbers, cross = patch.get_window_extent(), line.get_window_extent()
        assert cross.x0 < numbers.x0 and numbers.x1 < cross.x1 and cross.y0 < numbers.y0 and numbers.y1 < cross.y1


def test_matrix_of_many_weights_has_a_small_cross_in_each_pruned_cell():
    ax = drawable(matrix(torch.rand(9, 8), mask=torch.eye(9, 8, dtype=torch.bool)))
    assert len(ax.lines) == 9 * 8 - 8 and not ax.texts


def test_curves_are_the_data_with_distinct_colours_and_markers():
    ax = drawable(curves({"a": [3, 1], "b": ([10, 20], torch.tensor([1.0, 2.0]))}, xlabel="step", ylabel="loss", log_y=True))
    first, second = ax.lines
    assert list(first.get_xdata()) == [0, 1] and list(second.get_xdata()) == [10, 20] and list(second.get_ydata()) == [1, 2]
    assert first.get_color() != second.get_color() and first.get_marker() != second.get_marker()
    assert ax.get_xlabel() == "step" and ax.get_yscale() == "log" and ax.get_xscale() == "linear"


points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=30)


@given(points)
def test_front_holds_exactly_the_points_that_nothing_dominates(cloud):
    """Eq. (3) by comparing each pair."""

    def dominated(p):
        return any((q[0] <= p[0] and q[1] < p[1]) or (q[0] < p[0] and q[1] <= p[1]) for q in cloud)

    assert plots._front(cloud) == sorted({p for p in cloud if not dominated(p)})


def test_tradeoff_shows_points_of_each_method_and_the_front():
    ax = drawable(tradeoff({"dense": (1066, 1.7), "pruned": ([100, 50, 200], [1.8, 3.0, 1.9])}))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["dense", "pruned", "front"]
    assert list(zip(*ax.lines[2].get_data())) == [(50, 3.0), (100, 1.8), (1066, 1.7)]
    assert len(drawable(tradeoff({"one": (1, 1)})).lines) == 1


def test_a_given_axes_is_used_and_no_figure_is_made():
    """Widgets draw off screen: pyplot must not learn of it."""
    for draw in (
        lambda ax: curves({"a": [1, 2]}, ax=ax),
        lambda ax: tradeoff({"a": (1, 1)}, ax=ax),
        lambda ax: matrix(torch.rand(2, 2), ax=ax),
        lambda ax: weight_histogram(torch.rand(9), ax=ax),
        lambda ax: digit_grid(torch.rand(2, 784), ax=ax),
    ):
        figure, (ax,) = new_figure()
        assert draw(ax) is ax and figure_bytes(figure)
    assert plt.get_fignums() == []


def test_inputs_are_not_changed():
    W = torch.randn(3, 3)
    before = W.clone()
    matrix(W), weight_histogram(W), digit_grid(W[None].abs().clamp(max=1), side=3)
    assert W.equal(before)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: digit_grid(torch.rand(2, 100)), ValueError, "28 x 28"),
        (lambda: digit_grid(torch.rand(2, 784), titles=["a"]), ValueError, "2 images but 1 titles"),
        (lambda: digit_grid([1]), TypeError, "torch.Tensor"),
        (lambda: weight_histogram(torch.tensor([float("nan")])), ValueError, "1 NaN"),
        (lambda: matrix(torch.rand(3)), ValueError, "2 dimension"),
        (lambda: matrix(torch.rand(2, 2), mask=torch.ones(2, 3)), ValueError, "must have shape"),
        (lambda: curves({}), ValueError, "no curves"),
        (lambda: curves({"a": ([1], [1, 2])}), ValueError, "both must be one row"),
        (lambda: tradeoff({}), ValueError, "no points"),
        (lambda: tradeoff({"a": ([1], [1, 2])}), ValueError, "1 costs and 2 errors"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_same_figure_same_bytes_and_a_new_figure_replaces_the_picture():
    def picture(height):
        figure, (ax,) = new_figure()
        ax.plot([0, height])
        return figure

    assert figure_bytes(picture(1)) == figure_bytes(picture(1)) != figure_bytes(picture(2))
    image = figure_image(picture(1))
    assert bytes(image.value[:4]) == b"\x89PNG" and image.format == "png"
    before = image.value
    update_image(image, picture(2))
    assert image.value == figure_bytes(picture(2)) != before


def test_new_figure_has_the_course_style_without_touching_the_readers():
    before = dict(plt.rcParams)
    figure, axes = new_figure(3, size=(6, 2))
    assert isinstance(figure, Figure) and len(axes) == 3 and list(figure.get_size_inches()) == [6, 2]
    assert axes[0].xaxis.label.get_fontsize() >= 11 and not axes[0].spines["top"].get_visible()
    assert dict(plt.rcParams) == before


def test_redraw_runs_at_once_and_on_each_change():
    import ipywidgets as widgets

    a, b, seen = widgets.IntSlider(value=1), widgets.IntSlider(value=2), []
    redraw_on_change([a, b], lambda: seen.append((a.value, b.value)))
    a.value = 5
    b.value = 7
    assert seen == [(1, 2), (5, 2), (5, 7)]
