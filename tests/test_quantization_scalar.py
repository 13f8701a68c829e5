"""Quantizers of the unit Gaussian: against published tables, numerical integration, samples, and the bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm

from course_lib.quantization.scalar import (
    SPACE_FILLING_GAP_BITS,
    entropy_coded_scalar,
    gaussian_cells,
    gaussian_distortion_rate,
    gaussian_quantizer,
    lloyd_max,
    rate_gap_bits,
    uniform_quantizer,
)


def test_the_bound_by_hand():
    """A bit divides the error by 4 (6.02 dB); no bits leave the variance."""
    assert gaussian_distortion_rate(0, sigma=3) == 9 and gaussian_distortion_rate(1, sigma=3) == 2.25
    assert rate_gap_bits(2.25, 1, sigma=3) == 0 and rate_gap_bits(2.25, 1.5, sigma=3) == 0.5


@pytest.mark.parametrize(("n_bits", "D"), [(1, 0.363380), (2, 0.117482), (3, 0.034548), (4, 0.009501)])
def test_lloyd_max_has_the_published_distortion(n_bits, D):
    """Max 1960, table I (to 1e-5: more digits than the table prints, from Lloyd's conditions)."""
    assert abs(lloyd_max(2**n_bits).distortion - D) < 1e-6


def test_lloyd_max_at_one_bit_is_known_in_closed_form():
    """Levels +-E|x| = +-sqrt(2/pi), D = 1 - 2/pi."""
    Q = lloyd_max(2)
    assert Q.levels.tolist() == pytest.approx([-math.sqrt(2 / math.pi), math.sqrt(2 / math.pi)], abs=1e-12)
    assert Q.thresholds.tolist() == pytest.approx([0], abs=1e-12)
    assert Q.distortion == pytest.approx(1 - 2 / math.pi, abs=1e-12) and Q.entropy_bits == pytest.approx(1)


def test_one_level_is_the_mean():
    Q = lloyd_max(1)
    assert Q.levels.tolist() == [0] and Q.thresholds.numel() == 0 and Q.distortion == 1 and Q.entropy_bits == 0


@pytest.mark.parametrize("n_levels", [2, 3, 7, 16, 64, 256])
def test_lloyd_max_satisfies_both_conditions(n_levels):
    Q = lloyd_max(n_levels)
    assert torch.allclose(Q.thresholds, (Q.levels[:-1] + Q.levels[1:]) / 2, atol=1e-12)
    assert torch.allclose(Q.levels, gaussian_cells(Q.thresholds)[1], atol=1e-12)
    assert torch.allclose(Q.levels, -Q.levels.flip(0), atol=1e-8)


@given(st.lists(st.floats(-6, 6), min_size=0, max_size=6).map(sorted))
@settings(max_examples=20)
def test_cells_are_the_integrals_spelled_out(thresholds):
    """Eq. (3), (4) by adaptive quadrature."""
    p, m = gaussian_cells(torch.tensor(thresholds, dtype=torch.float64))
    ends = [-12.0, *thresholds, 12.0]
    for k in range(len(thresholds) + 1):
        mass = integrate.quad(norm.pdf, ends[k], ends[k + 1], epsabs=1e-13)[0]
        assert abs(p[k] - mass) < 1e-10
        if mass > 1e-4:
            first = integrate.quad(lambda x: x * norm.pdf(x), ends[k], ends[k + 1], epsabs=1e-13)[0]
            assert abs(m[k] - first / mass) < 1e-8
        assert ends[k] - 30 <= m[k] <= ends[k + 1] + 30


def test_far_cells_keep_their_precision():
    """Cell (8, 9): p = Q(8) - Q(9) = 6.2e-16, which 1 - Phi would lose altogether; mirrored cells agree to the last digits."""
    p, m = gaussian_cells(torch.tensor([-9.0, -8.0, 8.0, 9.0]))
    assert p[3] == pytest.approx(norm.sf(8) - norm.sf(9), rel=1e-9, abs=0)
    assert p[3] == pytest.approx(float(p[1]), rel=1e-9, abs=0)
    assert 8 < m[3] < 8.2
    _, m = gaussian_cells(torch.tensor([38.5, 39.0]))
    assert m.isfinite().all() and 38.5 <= m[1] <= 39


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=5, unique=True).map(sorted))
@settings(max_examples=15)
def test_the_distortion_is_the_integral_of_the_squared_error(levels):
    """Eq. (5) against quadrature of (x - Q(x))^2 phi(x)."""
    c = torch.tensor(levels, dtype=torch.float64)
    Q = gaussian_quantizer(c, (c[:-1] + c[1:]) / 2)
    ends = [-10.0, *Q.thresholds.tolist(), 10.0]
    D = sum(integrate.quad(lambda x, l=l: (x - l) ** 2 * norm.pdf(x), a, b)[0] for l, a, b in zip(levels, ends, ends[1:]))  # noqa: E741
    assert abs(Q.distortion - D) < 1e-8
    assert Q.distortion >= lloyd_max(len(levels)).distortion - 1e-9


@pytest.mark.parametrize(
    ("n_levels", "step", "D"), [(2, 1.596, 0.3634), (4, 0.9957, 0.118846), (8, 0.5860, 0.03744), (16, 0.3352, 0.01154)]
)
def test_the_best_uniform_step_is_the_published_one(n_levels, step, D):
    """Max 1960, table II."""
    Q = uniform_quantizer(n_levels)
    assert float(Q.levels[1] - Q.levels[0]) == pytest.approx(step, abs=6e-5 * 10)
    assert uniform_quantizer(n_levels, 0.25).levels.diff().unique().tolist() == [0.25]
    assert Q.distortion == pytest.approx(D, abs=6e-6 if n_levels != 2 else 3e-5)
    assert all(uniform_quantizer(n_levels, s * step).distortion > Q.distortion for s in (0.9, 0.99, 1.01, 1.1))


def test_two_bits_against_the_bound():
    """The three gaps that the chapter quotes."""
    assert rate_gap_bits(lloyd_max(4).distortion, 2) == pytest.approx(0.455, abs=5e-4)
    assert uniform_quantizer(4).distortion == pytest.approx(0.118846, abs=1e-6)
    coded = entropy_coded_scalar(2)
    assert coded.entropy_bits == pytest.approx(2, abs=1e-9)
    assert rate_gap_bits(coded.distortion, 2) == pytest.approx(0.2546, abs=1e-3)
    assert coded.distortion == pytest.approx(0.088941, abs=1e-6)


@pytest.mark.parametrize("rate_bits", [3, 4, 6])
def test_the_gap_of_entropy_coded_quantizers_tends_to_the_shape_of_a_cube(rate_bits):
    """Eq. (7): from 3 bits on the asymptote holds to 1e-4."""
    gap = rate_gap_bits(entropy_coded_scalar(rate_bits).distortion, rate_bits)
    assert abs(gap - SPACE_FILLING_GAP_BITS) < 1e-4
    assert 20 * math.log10(2) * SPACE_FILLING_GAP_BITS == pytest.approx(1.53, abs=5e-3)


@given(st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.9, 1, 1.5, 2.2, 3.7, 5, 7.9]))
def test_no_quantizer_beats_the_bound_and_the_rate_is_met(rate_bits):
    Q = entropy_coded_scalar(rate_bits)
    assert Q.entropy_bits == pytest.approx(rate_bits, abs=1e-6)
    assert gaussian_distortion_rate(rate_bits) < Q.distortion <= 1
    assert 0 < rate_gap_bits(Q.distortion, rate_bits) < 0.2547


def test_samples_give_what_the_density_gives():
    """200,000 draws: the standard error of a mean of squared errors of size 0.117 is below 0.0006."""
    samples = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    before = samples.clone()
    Q, exact = lloyd_max(4, samples, n_iterations=200), lloyd_max(4)
    assert abs(Q.distortion - exact.distortion) < 0.002 and abs(Q.entropy_bits - exact.entropy_bits) < 0.01
    assert torch.allclose(Q.levels, exact.levels, atol=0.03) and samples.equal(before)


def test_exact_distortion_is_what_a_monte_carlo_run_sees():
    Q = entropy_coded_scalar(1.5)
    x = np.random.default_rng(0).normal(size=400_000)
    k = np.searchsorted(Q.thresholds.numpy(), x)
    assert np.mean((x - Q.levels.numpy()[k]) ** 2) == pytest.approx(Q.distortion, rel=0.01)
    p = np.bincount(k) / len(x)
    assert -(p[p > 0] * np.log2(p[p > 0])).sum() == pytest.approx(Q.entropy_bits, abs=0.01)


@pytest.mark.usefixtures("as_a_user")
def test_bad_input_is_refused_in_words():
    for call, says in [
        (lambda: gaussian_distortion_rate(-1), "rate_bits must be >= 0"),
        (lambda: gaussian_distortion_rate(1, 0), "sigma must be > 0"),
        (lambda: rate_gap_bits(0, 1), "distortion must be > 0"),
        (lambda: lloyd_max(0), ">= 1"),
        (lambda: lloyd_max(2, torch.tensor([float("nan")])), "1 NaN"),
        (lambda: uniform_quantizer(1), ">= 2"),
        (lambda: uniform_quantizer(4, -1.0), "step must be > 0"),
        (lambda: entropy_coded_scalar(0), "> 0"),
        (lambda: entropy_coded_scalar(9), "<= 8"),
        (lambda: gaussian_cells(torch.tensor([1.0, 0.0])), "ascending"),
        (lambda: gaussian_quantizer(torch.ones(3), torch.ones(3)), "3 levels need 2 thresholds"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
