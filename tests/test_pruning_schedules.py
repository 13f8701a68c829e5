"""Schedules and rewinding (section 3.1). Each name is a claim; each docstring says why it must hold."""

import copy
import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.pruning import (
    attach_masks,
    cubic_sparsity,
    current_masks,
    linear_sparsity,
    prunable_weights,
    rewind,
    round_sparsity,
)

steps = st.integers(0, 300)
lengths = st.integers(1, 200)
ends = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(steps, lengths, ends, st.integers(0, 50))
def test_the_schedules_are_their_formulas_in_exact_fractions(step, n, p, start):
    """Zhu & Gupta's eq. (1) with rational numbers: a handful of float operations stays within 1e-14."""
    low, high = map(Fraction, p)
    left = 1 - Fraction(min(max(step - start, 0), n), n)
    assert math.isclose(cubic_sparsity(step, n, p[1], p[0], start), high + (low - high) * left**3, abs_tol=1e-14)
    assert math.isclose(linear_sparsity(step, n, p[1], p[0], start), high + (low - high) * left, abs_tol=1e-14)


@given(lengths, ends)
@pytest.mark.parametrize("schedule", [cubic_sparsity, linear_sparsity])
def test_a_schedule_never_falls_and_stays_between_its_ends(schedule, n, p):
    """Removed weights do not come back. The 1e-15 is one rounding of p_f + (p_i - p_f) u."""
    values = [schedule(t, n, p[1], p[0], 5) for t in range(n + 12)]
    assert all(b >= a - 1e-15 for a, b in itertools.pairwise(values))
    assert all(p[0] - 1e-15 <= v <= p[1] + 1e-15 for v in values)
    assert values[0] == pytest.approx(p[0], abs=1e-15) and values[-1] == p[1]


@given(st.integers(1, 99))
def test_cubic_is_ahead_of_linear_all_the_way(step):
    """(1 - u)^3 < (1 - u) inside (0, 1)."""
    assert cubic_sparsity(step, 100, 0.9) > linear_sparsity(step, 100, 0.9)


def test_the_cubic_by_hand():
    """Half way, an eighth of the distance is left: 0.8 * 7/8 = 0.7."""
    assert [cubic_sparsity(t, 10, 0.8) for t in (0, 5, 10, 99)] == pytest.approx([0, 0.7, 0.8, 0.8])
    assert cubic_sparsity(3, 10, 0.8, initial=0.2, start=4) == pytest.approx(0.2)
    assert linear_sparsity(5, 10, 0.8) == pytest.approx(0.4)


def test_the_slope_of_the_cubic_is_threefold_at_first_and_zero_at_last():
    n, p = 10_000, 0.9
    assert cubic_sparsity(1, n, p) * n == pytest.approx(3 * p, rel=1e-3)
    assert (p - cubic_sparsity(n - 1, n, p)) * n < 1e-6


def test_rounds_multiply_what_is_left():
    """1, 0.8, 0.64: 20 % of what is left. The paper's 3.6 % of the weights is what about 15 rounds leave."""
    left = 1.0
    for r in range(20):
        assert round_sparsity(r) == pytest.approx(1 - left)
        left *= 0.8
    assert 1 - round_sparsity(15) == pytest.approx(0.035, abs=0.001)
    assert round_sparsity(1, 1.0) == 1.0 and round_sparsity(5, 0.0) == 0.0


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def trained(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for i in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=torch.Generator().manual_seed(i))).square().mean().backward()
        optimizer.step()
    return model


def test_a_rewound_network_has_the_first_weights_under_the_last_mask():
    initial = copy.deepcopy(small().state_dict())
    model = trained(small())
    masks = {name: W > 0 for name, W in prunable_weights(model).items()}
    ticket = rewind(model, initial, masks)
    for name, W in prunable_weights(ticket).items():
        assert W.equal(torch.where(masks[name], initial[name], 0.0)) and current_masks(ticket)[name].equal(masks[name])
    assert ticket[0].bias.equal(initial["0.bias"]) and ticket[2].bias.equal(initial["2.bias"])


@pytest.mark.parametrize("masked", [False, True])
def test_rewinding_changes_neither_model_nor_state_and_training_the_ticket_keeps_the_zeros(masked):
    """Rounds rewind a network that is masked already: the copy must lose the old masks, the original must keep them."""
    initial = copy.deepcopy(small().state_dict())
    model = trained(small())
    masks = {name: W > 0 for name, W in prunable_weights(model).items()}
    if masked:
        attach_masks(model, {name: ~mask for name, mask in masks.items()})
    x, before, state = torch.randn(3, 4), copy.deepcopy(model.state_dict()), copy.deepcopy(initial)
    output = model(x)
    ticket = trained(rewind(model, initial, masks))
    assert all((W[~masks[name]] == 0).all() for name, W in prunable_weights(ticket).items())
    assert model(x).equal(output) and all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert all(v.equal(state[k]) for k, v in initial.items())


@pytest.mark.parametrize("schedule", [cubic_sparsity, linear_sparsity])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-1, 10, 0.9), "step must be a whole number >= 0"),
        ((1, 0, 0.9), "n_steps must be a whole number >= 1"),
        ((1, 10, 90), "did you mean 0.9"),
        ((1, 10, 0.5, 0.6), "initial <= final"),
        ((1, 10, 0.9, float("nan")), "fraction"),
        ((1, 10, 0.9, 0.0, -2), "start must be"),
    ],
)
def test_bad_schedules_are_refused_in_words(schedule, arguments, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        schedule(*arguments)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: round_sparsity(-1), "n_rounds"),
        (lambda: round_sparsity(1, 20), "did you mean 0.2"),
        (lambda: rewind(small(), nn.Linear(2, 2).state_dict(), {}), "not a state of this model"),
        (lambda: rewind(small(), small().state_dict(), {"9.weight": torch.ones(1, dtype=torch.bool)}), "'9.weight'"),
    ],
)
def test_bad_rounds_and_states_are_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
