"""Calibration: course_lib/quantization/histogram.py and observers.py."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.quantization import (
    EntropyObserver,
    Histogram,
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    PercentileObserver,
    choose_qparams,
    dequantize,
    integer_range,
    quantize,
)

seeds = st.integers(0, 2**31 - 1)
ALL = [MinMaxObserver, MovingAverageObserver, PercentileObserver, MSEObserver, EntropyObserver]
OF_THE_SET = [MinMaxObserver, PercentileObserver, MSEObserver, EntropyObserver]
FORMS = [(True, True), (False, True), (False, False)]


def activations(seed, n=600):
    """Bell with a few outliers, and sometimes a ReLU, as activations are."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, generator=g)
    X[: n // 60] *= 20
    return X.relu() if seed % 2 else X


def seen(observer, *batches):
    for X in batches:
        observer.observe(X)
    return observer


def small(kind):
    """Fewer bins for the entropy search, whose cost grows with their square."""
    return kind(n_bins=512) if kind is EntropyObserver else kind()


# --- the histogram


@given(seeds, st.integers(1, 5), st.floats(1e-6, 1e6))
def test_histogram_depends_on_the_set_of_values_alone(seed, n_batches, unit):
    """Any order, any cutting into batches: counts, width and extremes are the same, bit for bit."""
    X = activations(seed) * unit
    shuffled = X[torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))]
    a, b = seen(Histogram(256), X), seen(Histogram(256), *shuffled.chunk(n_batches))
    assert a.counts.equal(b.counts) and (a.exponent, a.low, a.high) == (b.exponent, b.low, b.high)


@given(seeds)
def test_histogram_counts_are_numpys(seed):
    """Powers of two as edges: no value is a rounding away from its bin."""
    X = activations(seed)
    h = seen(Histogram(256), X)
    edges = (numpy.arange(257) - 128) * h.width
    expected = numpy.histogram(X.double().numpy(), edges)[0]
    assert h.counts.tolist() == expected.tolist() and h.n_values == len(X)


@given(seeds)
def test_histogram_uses_at_least_a_quarter_of_its_bins_on_the_longer_side(seed):
    """max |x| < (n/2) width, and half that width would not do."""
    h = seen(Histogram(256), activations(seed))
    largest = max(abs(h.low), abs(h.high))
    assert 64 * h.width <= largest < 128 * h.width


def test_histogram_merging_hand_example():
    """Width 1: bins -4..3 hold -3, 1 and 3. The arrival of 5 doubles it: -3 -> bin -2, 1 -> 0, 3 -> 1, 5 -> 2."""
    h = seen(Histogram(8), torch.tensor([-3.0, 1.0, 3.0]))
    assert h.width == 1 and h.counts.tolist() == [0, 1, 0, 0, 0, 1, 0, 1]
    h.observe(torch.tensor([5.0]))
    assert h.width == 2 and h.counts.tolist() == [0, 0, 1, 0, 1, 1, 1, 0]


def test_histogram_of_zeros_waits_for_its_width():
    """Zeros before or after the first other value land in the same bin."""
    a = seen(Histogram(8), torch.zeros(3), torch.tensor([2.0]))
    b = seen(Histogram(8), torch.tensor([2.0]), torch.zeros(3))
    assert a.counts.equal(b.counts) and a.n_values == 4


@given(seeds, st.floats(0, 1))
def test_quantile_is_at_most_a_bin_above_the_exact_one(seed, share):
    """numpy's "inverted_cdf" is the definition: the smallest value whose share of values at or below reaches the mark."""
    X = activations(seed).double()
    h = seen(Histogram(1024), X)
    exact = float(numpy.quantile(X.numpy(), share, method="inverted_cdf"))
    assert exact <= h.quantile(share) <= exact + h.width


@given(seeds)
def test_magnitudes_fold_the_two_sides(seed):
    X = activations(seed)
    h = seen(Histogram(256), X)
    m = h.magnitudes()
    assert int(m.sum()) == len(X) and m[-1] > 0
    k = min(5, len(m))
    # On the negative side a bin is open at its outer end, so values on an edge (there are none but 0) would differ.
    assert m[:k].sum() == int((X.abs() < k * h.width).sum())


# --- what holds for all observers


@pytest.mark.parametrize("kind", OF_THE_SET)
@settings(max_examples=12)
@given(seed=seeds)
def test_order_and_batches_do_not_count(kind, seed):
    X = activations(seed)
    shuffled = X[torch.randperm(len(X), generator=torch.Generator().manual_seed(seed))]
    a, b = seen(small(kind), X), seen(small(kind), *shuffled.chunk(4))
    assert a.clip_range(4, False, True) == b.clip_range(4, False, True)


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=12)
@given(seed=seeds, n_bits=st.integers(2, 8), form=st.sampled_from(FORMS))
def test_no_range_is_wider_than_what_was_seen_and_zero(kind, seed, n_bits, form):
    """Calibration may clip, never invent."""
    X = activations(2 * (seed // 2) + (form == (True, False)))
    o = seen(small(kind), *X.chunk(3))
    low, high = o.clip_range(n_bits, *form)
    assert min(float(X.min()), 0) <= low <= high <= max(float(X.max()), 0)
    s, z = o.qparams(n_bits, *form)
    expected = choose_qparams(*torch.tensor([low, high], dtype=torch.float64), n_bits, *form)
    assert s.equal(expected[0].float()) and z.equal(expected[1])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
@pytest.mark.parametrize("n_bits", [2, 8])
def test_a_constant_is_represented_within_half_a_step(kind, value, n_bits):
    """Zeros, a constant or one value must not end in a scale of 0; histogram searches may miss by a bin (1/64 of it) more."""
    o = seen(small(kind), torch.full((9,), value), torch.full((1,), value))
    s, z = o.qparams(n_bits, False, True)
    X = torch.tensor([value])
    error = float((dequantize(quantize(X, s, z, n_bits), s, z) - X).abs())
    assert math.isfinite(float(s)) and float(s) > 0 and error <= float(s) / 2 * 1.0001 + abs(value) / 64


@pytest.mark.parametrize("kind", ALL)
def test_nothing_observed_is_said(kind):
    with pytest.raises(ValueError, match="nothing was observed"):
        kind().qparams()
    with pytest.raises(ValueError, match=f"{kind.__name__}: nothing was observed"):
        kind().clip_range(8, False, False)


@pytest.mark.parametrize("ask", ["quantile", "magnitudes", "errors", "divergences"])
def test_nothing_observed_is_said_by_the_searches_as_well(ask):
    with pytest.raises(ValueError, match="nothing was observed"):
        {
            "quantile": lambda: Histogram().quantile(0.5),
            "magnitudes": lambda: Histogram().magnitudes(),
            "errors": lambda: MSEObserver().errors(8, False, False),
            "divergences": lambda: EntropyObserver().divergences(16),
        }[ask]()


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=10)
@given(seed=seeds, n_bits=st.integers(2, 6))
def test_signed_and_unsigned_affine_codes_are_one_grid(kind, seed, n_bits):
    """They differ by the constant 2^(b-1) in every code, so range and scale must be the same and z shifted by it."""
    o = seen(small(kind), activations(seed))
    assert o.clip_range(n_bits, False, True) == o.clip_range(n_bits, False, False)
    (s, z), (t, y) = o.qparams(n_bits, False, True), o.qparams(n_bits, False, False)
    assert s.equal(t) and int(y - z) == 2 ** (n_bits - 1)


@pytest.mark.parametrize("kind", ALL)
def test_an_observer_looks_through_a_graph(kind):
    """float() of a value that wants a gradient warns, and warnings are errors here."""
    seen(small(kind), activations(1).requires_grad_()).qparams(4, False, True)


@pytest.mark.parametrize("kind", ALL)
def test_input_is_not_changed_and_asking_twice_is_the_same(kind):
    X = activations(0)
    before = X.clone()
    o = seen(small(kind), X)
    assert o.qparams(4, False, True)[0].equal(o.qparams(4, False, True)[0]) and X.equal(before)


# --- each one's own promise


@given(seeds)
def test_min_max_is_the_extremes(seed):
    X = activations(seed)
    assert seen(MinMaxObserver(), *X.chunk(5)).clip_range(8, False, True) == (float(X.min()), float(X.max()))


@given(seeds, st.floats(0, 1))
def test_moving_average_is_the_recursion_spelled_out(seed, rate):
    batches = activations(seed).chunk(6)
    low, high = float(batches[0].min()), float(batches[0].max())
    for X in batches[1:]:
        low, high = (1 - rate) * low + rate * float(X.min()), (1 - rate) * high + rate * float(X.max())
    assert seen(MovingAverageObserver(rate), *batches).clip_range(8, False, True) == pytest.approx((low, high), abs=1e-9)


def test_moving_average_forgets_an_odd_batch():
    """By rate 0.1: an outlier of 100 in the second of 50 batches of range 1 leaves 99 * 0.1 * 0.9^48 = 0.063."""
    batches = [torch.ones(3)] * 50
    batches[1] = torch.tensor([100.0])
    assert seen(MovingAverageObserver(0.1), *batches).high == pytest.approx(1 + 9.9 * 0.9**48)


@given(seeds, st.floats(0.5, 1))
def test_percentile_leaves_out_the_share_asked_for(seed, keep):
    """Above high lie at most 1 - keep of the values, below low as well; high is within a bin of the quantile."""
    X = activations(seed)
    o = seen(PercentileObserver(keep), *X.chunk(3))
    low, high = o.clip_range(8, False, True)
    assert (high < X).double().mean() <= 1 - keep + 1e-9
    assert high <= numpy.quantile(X.double().numpy(), keep, method="inverted_cdf") + o.histogram.width
    assert (low - o.histogram.width > X).double().mean() <= 1 - keep + 1e-9


def mean_squared_error(X, low, high, n_bits, form):
    s, z = choose_qparams(*torch.tensor([low, high], dtype=torch.float64), n_bits, *form)
    return float((dequantize(quantize(X, s, z, n_bits, form[1]), s, z) - X).square().mean())


@settings(max_examples=15)
@given(seeds, st.integers(2, 6), st.sampled_from(FORMS))
def test_least_squares_is_the_best_of_its_candidates(seed, n_bits, form):
    """Brute force on the values themselves. A bin of width d moves a value by d/2, so an rms error by d/2 at most."""
    X = activations(2 * (seed // 2) + (form == (True, False))).double()
    o = seen(MSEObserver(n_candidates=20), X)
    low, high, peak = float(X.min()), float(X.max()), float(X.abs().max())
    brute = min(
        mean_squared_error(X, max(min(low, 0.0), -t), min(max(high, 0.0), t), n_bits, form)
        for t in (peak * k / 20 for k in range(1, 21))
    )
    ours = mean_squared_error(X, *o.clip_range(n_bits, *form), n_bits, form)
    assert math.sqrt(brute) - 1e-12 <= math.sqrt(ours) <= math.sqrt(brute) + o.histogram.width


def test_least_squares_clips_more_at_fewer_bits():
    """Gauss: the published optimum for 2^b levels is at 1.71, 2.15, 2.55, 2.93 sigma for 2 to 5 bits (Banner et al. 2019);
    codes with a level at 0 and one side a level short differ a little, hence the margin of 0.35 sigma."""
    X = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    o = seen(MSEObserver(), X)
    found = [o.clip_range(b, False, True)[1] for b in (3, 4, 5)]
    assert found == pytest.approx([2.15, 2.55, 2.93], abs=0.35)
    assert found == sorted(found)


def divergence_spelled_out(counts, i, n_levels):
    """Migacz's recipe with lists: reference with outliers, candidate without, stretches, KL."""
    P = list(counts[:i])
    P[-1] += sum(counts[i:])
    Q = [0.0] * i
    for level in range(n_levels):
        members = [k for k in range(i) if k * n_levels // i == level]
        filled = [k for k in members if P[k] > 0]
        for k in filled:
            Q[k] = sum(counts[m] for m in members) / len(filled)
    if sum(Q) == 0:
        return math.inf
    p, q = [x / sum(P) for x in P], [x / sum(Q) for x in Q]
    return sum(a * (math.log(a / b) if b else math.inf) for a, b in zip(p, q) if a > 0)


@given(seeds, st.sampled_from([4, 8, 16]))
def test_divergences_are_the_recipe_spelled_out(seed, n_levels):
    X, count_zeros = activations(seed), bool(seed // 2 % 2)
    o = seen(EntropyObserver(n_bins=128, count_zeros=count_zeros), X)
    counts = o.histogram.magnitudes().tolist()
    counts[0] -= 0 if count_zeros else int((X == 0).sum())
    T, found = o.divergences(n_levels)
    first = min(n_levels, len(counts))
    assert T.tolist() == [i * o.histogram.width for i in range(first, len(counts) + 1)]
    expected = [divergence_spelled_out(counts, i, n_levels) for i in range(first, len(counts) + 1)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_entropy_takes_the_threshold_of_least_divergence():
    o = seen(EntropyObserver(n_bins=512), activations(1))
    T, divergence = o.divergences(integer_range(4, False)[1] + 1)
    low, high = o.clip_range(4, False, False)
    assert low == 0 and high == min(float(T[divergence.argmin()]), o.histogram.high)


def test_levels_from_zero_to_the_longer_end():
    """3 bits have 7 steps. One side takes all: 8 levels with 0. From -1 to 6, 6 of the 7; a symmetric grid has 3 or 7."""
    one_sided, skew = seen(EntropyObserver(), torch.tensor([0.0, 6.0])), seen(EntropyObserver(), torch.tensor([-1.0, 6.0]))
    assert one_sided._levels_outward(3, False, True) == one_sided._levels_outward(3, False, False) == 8
    assert skew._levels_outward(3, False, True) == skew._levels_outward(3, False, False) == 7
    assert skew._levels_outward(3, True, True) == 4 and one_sided._levels_outward(3, True, False) == 8


def test_entropy_cuts_far_outliers():
    """99.9 % in a bell of width 1, 0.1 % at 40: with 16 levels, reaching them would leave the bell one or two."""
    X = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).abs()
    X[:20] = 40
    assert seen(EntropyObserver(), X).clip_range(4, False, False)[1] < 10


def test_exact_zeros_do_not_move_the_threshold_unless_they_are_counted():
    """Every grid holds 0. Counted, a spike of zeros makes the rest negligible and the recipe clips it."""
    X = torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs()
    spiked = torch.cat([X, torch.zeros(20_000)])
    without, with_zeros, counted = (
        seen(o, x).clip_range(4, False, False)[1]
        for o, x in ((EntropyObserver(), X), (EntropyObserver(), spiked), (EntropyObserver(count_zeros=True), spiked))
    )
    assert without == with_zeros and counted < 0.5 * without


def test_entropy_keeps_what_fits():
    """Evenly spread values lose by any clipping and nothing by the full range, where every stretch is flat: KL = 0."""
    X = torch.linspace(0, 1 - 1e-6, 4096)
    assert seen(EntropyObserver(n_bins=128), X).clip_range(4, False, False)[1] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Histogram(6), "multiple of 4"),
        (lambda: Histogram(0), ">= 4"),
        (lambda: MovingAverageObserver(2.0), "fraction"),
        (lambda: PercentileObserver(99.99), "fraction"),
        (lambda: PercentileObserver(0.1), ">= 0.5"),
        (lambda: MSEObserver(0), ">= 1"),
    ]
    + [(lambda kind=kind: kind().observe(torch.tensor([math.nan])), f"{kind.__name__}.observe: 1 NaN") for kind in ALL]
    + [(lambda kind=kind: kind().observe(torch.empty(0)), f"{kind.__name__}.observe: X is empty") for kind in ALL]
    + [(lambda kind=kind: kind().observe(torch.ones(2, dtype=torch.complex64)), "real numbers") for kind in ALL]
    + [(lambda: seen(Histogram(8), torch.ones(1)).quantile(99), "did you mean 0.99")],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
