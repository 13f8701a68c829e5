"""s^2/12 and 6.02 dB a bit: course_lib/quantization/error_theory.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.quantization import (
    dequantize,
    peak_to_rms,
    predicted_snr_db,
    quantize,
    signal_to_noise_db,
    uniform_noise_variance,
)

seeds = st.integers(0, 2**31 - 1)


def test_variance_is_the_integral_of_the_square():
    """Midpoint sum over [-s/2, s/2]: exact up to 1/n^2 relative for a parabola."""
    s, n = 0.3, 10_000
    integral = sum(((k + 0.5) / n * s - s / 2) ** 2 for k in range(n)) / n
    assert math.isclose(uniform_noise_variance(s), integral, rel_tol=1e-7)
    assert uniform_noise_variance(torch.tensor([6.0, 12.0])).tolist() == [3.0, 12.0]


def test_measured_rounding_error_has_the_predicted_variance():
    """A million Gaussians, step a tenth of sigma. Std of the mean of e^2: s^2/12 * sqrt(0.8/n), five of them are 0.45 %."""
    X = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = dequantize(quantize(X, 0.1, 0, 8), torch.tensor(0.1, dtype=torch.float64)) - X
    assert abs(error.square().mean() / uniform_noise_variance(0.1) - 1) < 0.0045


def test_snr_hand_example():
    """Signal 3^2 + 4^2 = 25, error 0.5^2 = 0.25: a ratio of 100 is 20 dB."""
    assert math.isclose(signal_to_noise_db(torch.tensor([3.0, 4.0]), torch.tensor([3.5, 4.0])), 20.0, rel_tol=1e-12)


@given(seeds, st.floats(1e-3, 1e3))
def test_snr_does_not_see_the_unit(seed, unit):
    g = torch.Generator().manual_seed(seed)
    W, E = torch.randn(2, 40, dtype=torch.float64, generator=g)
    assert math.isclose(signal_to_noise_db(W, W + E), signal_to_noise_db(unit * W, unit * (W + E)), abs_tol=1e-9)


def test_snr_without_error_or_without_signal():
    Z = torch.zeros(3)
    assert signal_to_noise_db(Z, Z) == math.inf and signal_to_noise_db(Z + 1, Z + 1) == math.inf
    assert signal_to_noise_db(Z, Z + 1) == -math.inf


@pytest.mark.parametrize("n_bits", [3, 5, 8])
def test_prediction_is_met_by_uniform_data(n_bits):
    """For data uniform in [-1, 1] on a midpoint grid of 2^b cells, (1) is exact; 200,000 evenly spaced points, 0.01 dB."""
    X = torch.linspace(-1, 1, 200_001, dtype=torch.float64)
    s = 2 / 2**n_bits
    X_hat = ((X / s - 0.5).round().clamp(-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) + 0.5) * s
    assert abs(signal_to_noise_db(X, X_hat) - predicted_snr_db(n_bits, math.sqrt(3))) < 0.01
    assert abs(predicted_snr_db(n_bits, math.sqrt(3)) - 6.0206 * n_bits) < 1e-3


@given(st.integers(1, 15), st.floats(1, 100))
def test_a_bit_is_six_decibel_and_a_tenfold_peak_is_twenty(n_bits, peak):
    assert math.isclose(predicted_snr_db(n_bits + 1, peak) - predicted_snr_db(n_bits, peak), 20 * math.log10(2))
    assert math.isclose(predicted_snr_db(n_bits, peak) - predicted_snr_db(n_bits, 10 * peak), 20, rel_tol=1e-9)


@given(seeds, st.floats(1e-30, 1e30))
def test_peak_to_rms_is_the_formula_and_does_not_see_the_unit(seed, unit):
    """Float32 holds unit * W to a relative eps, so the ratio to a few of them."""
    W = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
    values = W.flatten().tolist()
    slow = max(map(abs, values)) / math.sqrt(math.fsum(w * w for w in values) / len(values))
    assert math.isclose(peak_to_rms(W), slow, rel_tol=1e-6)
    assert math.isclose(peak_to_rms(unit * W), slow, rel_tol=1e-6)


def test_peak_to_rms_of_constants_and_zeros_is_one():
    assert peak_to_rms(torch.full((7,), -0.1)) == 1 and peak_to_rms(torch.zeros(2)) == 1 and peak_to_rms(torch.ones(1)) == 1


def test_input_is_not_changed():
    W = torch.randn(5)
    before = W.clone()
    signal_to_noise_db(W, W + 1), peak_to_rms(W), uniform_noise_variance(W.abs() + 1)
    assert W.equal(before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: uniform_noise_variance(0.0), "> 0"),
        (lambda: uniform_noise_variance(torch.tensor([1.0, -1.0])), "> 0"),
        (lambda: signal_to_noise_db(torch.ones(2), torch.ones(3)), "must have shape"),
        (lambda: signal_to_noise_db(torch.empty(0), torch.empty(0)), "empty"),
        (lambda: predicted_snr_db(0, 2.0), "n_bits"),
        (lambda: predicted_snr_db(8, 0.5), ">= 1"),
        (lambda: peak_to_rms(torch.tensor([math.nan])), "NaN"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
