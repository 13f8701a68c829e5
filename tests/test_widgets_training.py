"""The valley of chapter 2.2: the walk is the optimizer's, the prediction holds, the sliders change text and picture."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.optimizers import contraction
from course_lib.widgets.training import START, describe, valley_explorer, valley_figure, valley_values


def test_hand_example():
    """Ratio 4, lr 0.4: factors 0.6 and -0.6; 0.6^n < 1/1000 after 13.5, so 14 steps. At lr 0.5 the steep one never shrinks."""
    walk = valley_values(0.4, ratio=4.0)
    assert walk.rho == pytest.approx(0.6) and walk.measured_steps == 14 and 13 < walk.predicted_steps < 14
    assert describe(walk) == "contraction 0.600 a step; predicted: 14 steps; measured: 14 steps"
    stuck = valley_values(0.5, ratio=4.0)
    assert (stuck.rho, stuck.predicted_steps, stuck.measured_steps) == (1.0, None, None)
    assert describe(stuck) == "contraction 1.000 a step; predicted: never arrives; measured: not within 400 steps"


@given(st.floats(1e-3, 0.09), st.floats(1, 20))
def test_without_momentum_the_path_is_the_power_of_its_factor(lr, ratio):
    """w_t = (1 - lr a)^t w_0 in each direction: 400 products of float64 numbers."""
    walk = valley_values(lr, ratio=ratio, n_steps=50)
    for j, a in enumerate((1.0, ratio)):
        expected = START[j] * (1 - lr * a) ** torch.arange(51, dtype=torch.float64)
        assert torch.allclose(walk.path[:, j], expected, rtol=1e-12, atol=1e-300)


@settings(max_examples=20)
@given(st.floats(0.01, 0.4), st.floats(0.0, 0.9), st.booleans(), st.floats(1, 20))
def test_measured_steps_are_near_the_predicted_ones_wherever_it_arrives(lr, momentum, nesterov, ratio):
    """A non-normal 2 x 2 step with norm below 1 + ratio can add a factor, hence a number of steps, but not another slope."""
    walk = valley_values(lr, momentum, nesterov, ratio, n_steps=1000)
    if walk.rho < 0.97:
        slack = math.log(4 * (2 + ratio) * 100) / -math.log(walk.rho)
        assert walk.measured_steps is not None
        assert walk.measured_steps <= walk.predicted_steps + slack + 1
    if walk.rho > 1.001:
        assert walk.predicted_steps is None and walk.measured_steps is None


def test_a_round_valley_can_be_crossed_in_one_step_and_a_diverging_path_is_cut():
    assert valley_values(1.0, ratio=1.0).measured_steps == 1
    away = valley_values(1.0, ratio=20.0)
    assert len(away.path) < 10 and away.path.isfinite().all() and away.rho == pytest.approx(19.0)


def test_the_sliders_change_text_and_picture_to_the_right_numbers():
    box = valley_explorer()
    (rate, heavy), (narrow, ahead) = box.children[0].children, box.children[1].children
    text, image = box.children[2], box.children[3]
    for control, value in ((rate, 0.1), (heavy, 0.9), (narrow, 50), (ahead, True), (rate, 0.01)):
        picture = bytes(image.value)
        control.value = value
        walk = valley_values(rate.value, heavy.value, ahead.value, float(narrow.value))
        assert text.value.startswith(describe(walk)) and bytes(image.value) != picture
        expected = max(contraction(rate.value, a, heavy.value, ahead.value) for a in (1.0, float(narrow.value)))
        assert f"contraction {expected:.3f} a step" in text.value


def test_the_text_names_the_limit_of_the_learning_rate():
    box = valley_explorer(lr=0.05, ratio=20)
    assert "the limit of the learning rate is 0.1" in box.children[2].value
    assert valley_values(0.0999).rho < 1 and valley_values(0.1001).rho > 1


def test_the_figure_shows_path_and_prediction_side_by_side():
    figure = valley_figure(valley_values(0.05), title="one walk")
    left, right = figure.axes
    assert left.get_title() == "one walk" and right.get_yscale() == "log" and len(right.lines) == 2


@pytest.mark.parametrize(
    "bad, says",
    [({"lr": -1.0}, "lr"), ({"lr": 0.1, "ratio": 0.5}, "ratio"), ({"lr": 0.1, "momentum": 1.0}, "momentum"),
     ({"lr": 0.1, "n_steps": 0}, "n_steps"), ({"lr": 0.1, "tolerance": 0.0}, "tolerance")],
)  # fmt: skip
def test_bad_input_is_refused_in_words(bad, says):
    with pytest.raises(ValueError, match=says):
        valley_values(**bad)
