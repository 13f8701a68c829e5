"""Time and memory. The clock is replaced by one that the test winds, so no test depends on how busy the machine is."""

import gc
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from course_lib.measure import latency, peak_memory, speed, speed_ratio


class Clock:
    """A perf_counter that only moves when told."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def takes(self, *seconds):
        """A function that lasts the given numbers of seconds, in turn, over and over."""
        calls = iter(range(10**9))

        def fn():
            self.now += seconds[next(calls) % len(seconds)]

        return fn


def test_latency_is_the_median_so_a_single_disturbance_does_not_show(monkeypatch):
    clock = Clock(monkeypatch)
    fast = clock.takes(*[1.0] * 9, 50.0)
    result = latency(fast, n_repeats=30, n_warmup=10)
    assert result.median_s == pytest.approx(1.0) and result.low_s == pytest.approx(1.0) and result.high_s == pytest.approx(1.0)
    assert (result.n_repeats, result.n_threads) == (30, 1) and str(result) == "1e+03 ms [1e+03, 1e+03], 1 thread(s)"


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=60, unique=True), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_the_narrowest_pair_of_order_statistics_that_covers(values, confidence):
    """Eq. (2) with scipy's binomial: rank k is allowed and k + 1 is not; the extremes are what there is for small n."""
    n = len(values)
    low, high = speed._interval_of_median(values, confidence)
    k = sorted(values).index(low) + 1
    assert high == sorted(values)[n - k]
    allowed = 2 * stats.binom.cdf(k - 1, n, 0.5) <= (1 - confidence) * (1 + 1e-9)
    assert allowed or k == 1
    assert 2 * stats.binom.cdf(k, n, 0.5) > (1 - confidence) * (1 - 1e-9)


def test_hand_example_of_the_interval():
    """n = 30 at 95 %: the 10th and the 21st of the sorted times (2 P(Bin(30, 1/2) <= 9) = 0.043)."""
    assert speed._interval_of_median([float(i) for i in range(1, 31)]) == (10.0, 21.0)
    assert speed._interval_of_median([3.0]) == (3.0, 3.0)


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    """2,000 samples of 30 skewed times: coverage 95.7 %, standard deviation of the count 0.45 %."""
    draws = torch.distributions.Exponential(1.0).sample((2000, 30)).double().tolist()
    hits = sum(low <= math.log(2) <= high for low, high in map(speed._interval_of_median, draws))
    assert 0.957 - 5 * 0.0045 < hits / 2000 < 0.957 + 5 * 0.0045


def test_speed_ratio_is_of_pairs_so_a_slowing_machine_does_not_show(monkeypatch):
    """Both slow down by 1 % a round: an interval of unpaired times would be 20 % wide, that of the ratios has no width."""
    clock, calls = Clock(monkeypatch), {"a": 0, "b": 0}

    def lasts(name, seconds):
        def fn():
            calls[name] += 1
            clock.now += seconds * 1.01 ** calls[name]

        return fn

    result = speed_ratio(lasts("a", 6.0), lasts("b", 2.0), n_repeats=20)
    assert result.ratio == pytest.approx(3.0) and result.low == pytest.approx(3.0) and result.high == pytest.approx(3.0)
    assert result.baseline_s / result.other_s == pytest.approx(3.0) and str(result).startswith("x 3.00 [3.00, 3.00]")


def test_the_order_within_pairs_alternates(monkeypatch):
    clock, order = Clock(monkeypatch), []

    def named(name):
        def fn():
            order.append(name)
            clock.now += 1.0

        return fn

    speed_ratio(named("a"), named("b"), n_repeats=4, n_warmup=1)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab" + "ba"


def test_short_calls_are_repeated_inside_a_measurement(monkeypatch):
    """A call of 10 microseconds is run 100 times to fill at_least_s = 1 ms; the result is per call all the same."""
    clock, n = Clock(monkeypatch), [0]

    def fn():
        n[0] += 1
        clock.now += 1e-5

    result = latency(fn, n_repeats=5, n_warmup=2)
    assert result.median_s == pytest.approx(1e-5) and 2 + 5 * 100 <= n[0] <= 2 + 5 * 101


@pytest.mark.parametrize("collecting", [True, False])
def test_threads_and_garbage_collection_are_put_back_even_after_an_error(collecting):
    seen = []
    torch.set_num_threads(2)
    (gc.enable if collecting else gc.disable)()
    try:
        latency(lambda: seen.append((torch.get_num_threads(), gc.isenabled())), n_repeats=1, n_warmup=1, at_least_s=0.0)
        with pytest.raises(ZeroDivisionError):
            speed_ratio(lambda: 1 / 0, lambda: None)
        assert set(seen) == {(1, False)} and torch.get_num_threads() == 2 and gc.isenabled() == collecting
    finally:
        gc.enable()
        torch.set_num_threads(1)


def test_a_real_clock_gives_ordered_positive_numbers():
    x = torch.ones(64, 64)
    result = latency(lambda: x @ x, n_repeats=8)
    assert 0 < result.low_s <= result.median_s <= result.high_s


def test_peak_memory_is_predicted_from_shapes():
    """a and b of 1,000 float32 are alive together; c is made after a is gone; 4 bytes each."""

    def fn():
        a = torch.empty(1000)
        b = torch.empty(1000)
        del a
        c = torch.empty(500)
        return b, c

    assert peak_memory(fn) == peak_memory(fn) == 8000


def test_peak_memory_counts_activations_kept_for_the_backward_pass():
    """Eval without gradients holds two activations at a time; training keeps what backward needs, and the gradients."""
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(100, 100), nn.ReLU())])
    x = torch.zeros(1000, 100)

    def forward():
        with torch.no_grad():
            model(x)

    def backward():
        model(x).sum().backward()

    one = 4 * 1000 * 100
    try:
        assert peak_memory(forward) == 2 * one
        assert peak_memory(backward) >= 6 * one + 4 * sum(p.numel() for p in model.parameters())
    finally:
        model.zero_grad()


def test_releasing_what_was_there_before_makes_no_room():
    """10,000 old numbers go, 1,000 new ones come: the peak of what the function allocated is 4,000 bytes, not 0.

    The profiler reports the release of a block only if it saw its allocation: the old ones come from a measured function too.
    """
    kept = []
    assert peak_memory(lambda: kept.append(torch.empty(10_000))) == 40_000

    def fn():
        kept.clear()
        kept.append(torch.empty(1_000))

    assert peak_memory(fn) == 4_000


def test_what_was_there_before_and_calls_without_tensors_cost_nothing():
    kept = torch.zeros(10_000)
    assert peak_memory(lambda: kept.add_(1)) < 100 and peak_memory(lambda: None) == 0


def test_bad_input_is_refused_in_words(as_a_user):
    with pytest.raises(TypeError, match="wrap it in a lambda"):
        latency(torch.zeros(1))
    with pytest.raises(TypeError, match="other must be a function"):
        speed_ratio(lambda: None, 3)
    with pytest.raises(TypeError, match="fn must be a function"):
        peak_memory(None)
    for name in ("n_repeats", "n_warmup", "n_threads"):
        with pytest.raises(ValueError, match=name):
            latency(lambda: None, **{name: 0})
    with pytest.raises(ValueError, match="at_least_s"):
        latency(lambda: None, at_least_s=-1.0)
