"""The temperature explorer: its numbers by hand, and that each knob changes picture and text to the right number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.widgets.distillation import temperature_explorer, temperature_values

LOGITS = torch.tensor([[0.0, 4.0 * math.log(3), 0.0], [2.0, 1.0, 0.0]])


def explorer():
    box = temperature_explorer(torch.rand(2, 784), LOGITS, torch.tensor([1, 0]))
    controls, picture, text = box.children
    return *controls.children, picture, text


def test_values_by_hand():
    """v/4 = (0, log 3, 0): shares 1/5, 3/5, 1/5. H = 0.6 log2(5/3) + 0.4 log2 5."""
    values = temperature_values(LOGITS[0], 4)
    assert values.shares == pytest.approx([0.2, 0.6, 0.2], rel=1e-6)
    entropy = 0.6 * math.log2(5 / 3) + 0.4 * math.log2(5)
    assert values.entropy_bits == pytest.approx(entropy, rel=1e-6)
    assert (values.n_effective, values.dark_share) == (pytest.approx(2**entropy, rel=1e-6), pytest.approx(0.4, rel=1e-6))
    assert (values.first, values.runner_up) == (1, 0)


@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_a_hotter_teacher_leaves_more_open_and_at_most_log_C(seed, T):
    logits = 5 * torch.randn(10, generator=torch.Generator().manual_seed(seed))
    cold, hot = temperature_values(logits, T), temperature_values(logits, 2 * T)
    assert -1e-12 <= cold.entropy_bits <= hot.entropy_bits + 1e-9 <= math.log2(10) + 2e-9
    assert math.fsum(cold.shares) == pytest.approx(1)


def test_turning_the_temperature_changes_picture_and_text_to_the_right_numbers():
    _, temperature, picture, text = explorer()
    before = picture.value
    temperature.value = 4.0
    assert picture.value != before and "60.0% for 1, 20.0% for" in text.value and "T = 4.00" in text.value
    temperature.value = 1.0
    assert picture.value == before and f"{81 / 83:.1%} for 1" in text.value


def test_choosing_another_digit_shows_it():
    which, _, picture, text = explorer()
    before = picture.value
    which.value = 1
    share = math.exp(2) / (math.exp(2) + math.exp(1) + 1)
    assert picture.value != before and f"{share:.1%} for 0" in text.value


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: temperature_values(LOGITS[0], 0), "T must be > 0"),
        (lambda: temperature_values(LOGITS, 1), "must have 1 dimension"),
        (lambda: temperature_values(LOGITS[0][:1], 1), "no runner-up"),
        (lambda: temperature_explorer(torch.rand(1, 784), LOGITS, torch.tensor([1, 0])), "equally many"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
