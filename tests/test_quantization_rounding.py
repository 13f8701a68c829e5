"""Rounding by lot and rounding for the output: course_lib/quantization/rounding.py and adaround.py."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.quantization import (
    adaround,
    dequantize,
    output_error,
    quantize,
    quantize_stochastic,
    rectified_sigmoid,
    rounding_regularizer,
    stochastic_round,
    weight_qparams,
)

seeds = st.integers(0, 2**31 - 1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@given(st.floats(-100, 100, width=32), seeds)
def test_stochastic_rounding_is_right_on_average(x, seed):
    """40,000 draws of one value. Hoeffding: a mean of variables within 1 strays by t with probability 2 exp(-2 n t^2);
    t = 0.0175 makes that 5e-11. A float32 u adds a bias of 2^-24."""
    mean = stochastic_round(torch.full((40_000,), x), seeded(seed)).double().mean()
    assert abs(float(mean) - x) < 0.0175 + 2**-24


@given(st.floats(-100, 100, width=32), seeds)
def test_stochastic_rounding_goes_to_a_neighbour(x, seed):
    found = set(stochastic_round(torch.full((100,), x), seeded(seed)).tolist())
    assert found <= {math.floor(x), math.floor(x) + 1} and (x != math.floor(x) or found == {x})


def test_stochastic_rounding_has_twice_the_squared_error():
    """Uniform fractions: E f(1-f) = 1/6 against 1/12. A million draws; the std of the mean of (r-x)^2 is below 2.5e-4."""
    X = 10 * torch.rand(1_000_000, dtype=torch.float64, generator=seeded(0))
    assert float((stochastic_round(X, seeded(1)) - X).square().mean()) == pytest.approx(1 / 6, abs=1.25e-3)
    assert float((X.round() - X).square().mean()) == pytest.approx(1 / 12, abs=1.25e-3)


def test_a_small_update_survives_on_average_only_by_lot():
    """1,000 updates of a tenth of a step: nearest stays at 0 for ever, stochastic arrives near 100 (std 9.5 steps)."""
    nearest = by_lot = torch.zeros(())
    g = seeded(0)
    for _ in range(1000):
        nearest, by_lot = (nearest + 0.1).round(), stochastic_round(by_lot + 0.1, g)
    assert float(nearest) == 0 and abs(float(by_lot) - 100) < 5 * 9.5


@given(seeds, st.integers(2, 8), st.booleans())
def test_stochastic_codes_are_floor_or_ceiling_within_the_range(seed, n_bits, symmetric):
    W = torch.randn(4, 5, generator=seeded(seed))
    s, z = weight_qparams(W, n_bits, symmetric, "row")
    q = quantize_stochastic(W, s, z, n_bits, generator=seeded(seed))
    low = quantize((W / s).floor() * s, s, z, n_bits)
    assert ((q - low.int() == 0) | (q - low.int() == 1)).all()
    assert q.min() >= -(2 ** (n_bits - 1)) and q.max() < 2 ** (n_bits - 1)


def test_a_generator_makes_the_lot_repeatable_and_input_stays():
    W = torch.randn(50, generator=seeded(0))
    before = W.clone()
    assert stochastic_round(W, seeded(1)).equal(stochastic_round(W, seeded(1)))
    assert not stochastic_round(W, seeded(1)).equal(stochastic_round(W, seeded(2)))
    quantize_stochastic(W, 0.1)
    assert W.equal(before)


# --- AdaRound


def layer(seed, n_out=6, n_in=24, n=300):
    """A layer whose inputs are correlated, as hidden activations are."""
    g = seeded(seed)
    X = (torch.randn(n, n_in, generator=g) @ torch.randn(n_in, n_in, generator=g)).relu()
    return 0.1 * torch.randn(n_out, n_in, generator=g), X


def test_rectified_sigmoid_hand_examples():
    """sigma(0) = 1/2 stays 1/2; -2.4 and 2.4 (= ln 11 = 2.398) are where it is cut; between them 1.2 sigma - 0.1."""
    v = torch.tensor([-9.0, -math.log(11) - 1e-4, 0.0, 1.0, math.log(11) + 1e-4, 9.0])
    assert rectified_sigmoid(v).tolist() == pytest.approx([0, 0, 0.5, 1.2 / (1 + math.exp(-1)) - 0.1, 1, 1], abs=1e-6)


@given(seeds, st.floats(2, 20))
def test_regularizer_is_the_sum_spelled_out(seed, beta):
    h = torch.rand(9, generator=seeded(seed), dtype=torch.float64)
    expected = math.fsum(1 - abs(2 * x - 1) ** beta for x in h.tolist())
    assert float(rounding_regularizer(h, beta)) == pytest.approx(expected, rel=1e-12)


def test_regularizer_is_zero_only_when_all_is_decided():
    assert float(rounding_regularizer(torch.tensor([0.0, 1.0, 1.0]), 2)) == 0
    assert float(rounding_regularizer(torch.tensor([0.5, 1.0]), 20)) == 1


@given(seeds)
def test_output_error_is_the_mean_over_inputs_spelled_out(seed):
    W, X = layer(seed, 2, 3, 4)
    W_hat = W.round(decimals=1)
    slow = sum(
        sum((float(W[i, j]) - float(W_hat[i, j])) * float(X[k, j]) for j in range(3)) ** 2 for k in range(4) for i in range(2)
    )
    assert output_error(W, W_hat, X) == pytest.approx(slow / 4, rel=1e-4, abs=1e-10)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_bits", [3, 4])
def test_adaround_beats_nearest_in_output_error(seed, n_bits):
    """On correlated inputs the gain is near a half (seen: 0.35 to 0.6 of nearest); 0.8 leaves room for another machine."""
    W, X = layer(seed)
    s, z = weight_qparams(W, n_bits)
    nearest = output_error(W, dequantize(quantize(W, s, z, n_bits), s, z), X)
    ours = output_error(W, dequantize(adaround(W, X, s, z, n_bits, n_steps=200), s, z), X)
    assert ours < 0.8 * nearest


@pytest.mark.parametrize("seed", range(3))
def test_adaround_is_near_the_best_of_all_roundings(seed):
    """One row of ten weights has 1,024 roundings. The best is known, and the descent closes most of the gap from nearest."""
    W, X = layer(seed, 1, 10)
    s = torch.tensor(0.05)
    down = (W / s).floor()
    best = min(output_error(W, (down + torch.tensor([up])) * s, X) for up in itertools.product((0.0, 1.0), repeat=10))
    nearest = output_error(W, dequantize(quantize(W, s, 0, 8), s), X)
    ours = output_error(W, dequantize(adaround(W, X, s, 0, 8, n_steps=300), s), X)
    assert best <= ours * (1 + 1e-5) and ours - best <= 0.5 * (nearest - best)


@settings(max_examples=15)
@given(seeds, st.booleans())
def test_adaround_codes_are_floor_or_ceiling_within_the_range(seed, symmetric):
    W, X = layer(seed, 3, 5, 20)
    s, z = weight_qparams(W, 3, symmetric, "row")
    q = adaround(W, X, s, z, 3, n_steps=10)
    low = ((W / s).floor() + z).clamp(-4, 3)
    high = ((W / s).floor() + 1 + z).clamp(-4, 3)
    assert ((q == low) | (q == high)).all() and q.dtype == torch.int8


def test_uncorrelated_inputs_leave_nothing_to_gain():
    """With G the identity, the output error is the sum of the weights' own, and nearest is the best choice for each."""
    W, X = 0.1 * torch.randn(4, 8, generator=seeded(0)), torch.eye(8)
    s, z = weight_qparams(W, 4)
    q, nearest = adaround(W, X, s, z, 4), quantize(W, s, z, 4)
    f = W / s - (W / s).floor()
    assert q.equal(nearest) or ((q != nearest) <= ((f - 0.5).abs() < 0.1)).all()


def test_adaround_repeats_itself_and_leaves_its_input_alone():
    W, X = layer(0)
    before = W.clone(), X.clone()
    s, z = weight_qparams(W, 4)
    assert adaround(W, X, s, z, n_steps=20).equal(adaround(W, X, s, z, n_steps=20))
    assert W.equal(before[0]) and X.equal(before[1])


def test_adaround_of_grid_points_zeros_and_dead_inputs_is_nearest():
    s = torch.tensor(0.5)
    W = torch.tensor([[0.5, -1.0, 0.0]])
    assert adaround(W, torch.ones(2, 3), s).tolist() == [[1, -2, 0]]
    assert adaround(torch.zeros(1, 1), torch.ones(1, 1), s).tolist() == [[0]]
    assert adaround(W + 0.1, torch.zeros(2, 3), s).equal(quantize(W + 0.1, s, 0, 4))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stochastic_round(torch.empty(0)), "empty"),
        (lambda: quantize_stochastic(torch.ones(2), 0.0), "> 0"),
        (lambda: rectified_sigmoid(torch.tensor([math.nan])), "NaN"),
        (lambda: rounding_regularizer(torch.tensor([1.5]), 2.0), r"in \[0, 1\]"),
        (lambda: rounding_regularizer(torch.tensor([0.5]), 0.0), "> 0"),
        (lambda: output_error(torch.ones(2, 3), torch.ones(2, 2), torch.ones(4, 3)), "must have shape"),
        (lambda: output_error(torch.ones(2, 3), torch.ones(2, 3), torch.ones(4, 2)), "3 columns"),
        (lambda: adaround(torch.ones(2, 3), torch.ones(4, 2), 1.0), "3 columns"),
        (lambda: adaround(torch.ones(2, 3), torch.ones(4, 3), 0.0), "> 0"),
        (lambda: adaround(torch.ones(2, 3), torch.ones(4, 3), 1.0, n_steps=0), ">= 1"),
        (lambda: adaround(torch.ones(2, 3), torch.ones(4, 3), 1.0, lr=0.0), "> 0"),
        (lambda: adaround(torch.ones(2, 3), torch.ones(4, 3), 1.0, strength=-1.0), ">= 0"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
