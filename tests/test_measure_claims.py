"""Verdicts: Student's t and McNemar's test equal scipy's, three outcomes, and the rate of false claims is the one promised."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course_lib.measure import claims, mcnemar_p, mean_interval, verdict, verdict_on_test_set

numbers = st.floats(-100, 100)


@given(st.integers(1, 40), st.floats(0, 50))
def test_students_probability_is_scipys(df, t):
    """A finite sum of at most df / 2 positive terms against scipy's incomplete beta function."""
    assert abs(claims._t_probability(t, df) - (1 - 2 * stats.t.sf(t, df))) < 1e-12


@given(st.integers(1, 30), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_students_quantile_is_scipys(df, confidence):
    assert claims._t_quantile(confidence, df) == pytest.approx(stats.t.ppf((1 + confidence) / 2, df), rel=1e-9)


def test_the_quantiles_everybody_knows():
    assert round(claims._t_quantile(0.95, 2), 2) == 4.30 and round(claims._t_quantile(0.95, 4), 2) == 2.78


@given(st.lists(numbers, min_size=2, max_size=12), st.sampled_from([0.8, 0.95]))
def test_the_interval_of_the_mean_is_scipys(values, confidence):
    low, high = mean_interval(values, confidence)
    n = len(values)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.tstd(values) / math.sqrt(n) if len(set(values)) > 1 else 0.0
    mean = math.fsum(values) / n
    assert low == pytest.approx(mean - half, abs=1e-6) and high == pytest.approx(mean + half, abs=1e-6)


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8))
def test_the_verdict_is_that_of_scipys_paired_t_test(pairs):
    """Except at p = 0.05 exactly, and where differences are equal and scipy divides 0 by 0."""
    candidate, baseline = zip(*pairs)
    differences = [c - b for c, b in pairs]
    if max(differences) - min(differences) < 1e-6:
        return
    p = stats.ttest_rel(candidate, baseline).pvalue
    if abs(p - 0.05) > 1e-6:
        mean = math.fsum(differences)
        expected = "no difference shown" if p > 0.05 else "better" if mean > 0 else "worse"
        assert verdict(candidate, baseline) == expected


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6), st.floats(0, 5))
def test_exchanging_the_two_or_the_direction_exchanges_better_and_worse(pairs, margin):
    candidate, baseline = map(list, zip(*pairs))
    if max(max(values) - min(values) for values in (candidate, baseline)) < 1e-9:
        return  # no spread at all: refused, or no difference
    other = {"better": "worse", "worse": "better"}
    got = verdict(candidate, baseline, margin=margin)
    assert verdict(baseline, candidate, margin=margin) == other.get(got, got)
    assert verdict(candidate, baseline, higher_is_better=False, margin=margin) == other.get(got, got)


def test_hand_examples_with_three_seeds():
    """Differences 1, 2, 3: mean 2, s / sqrt(3) = 0.577, times 4.30 = 2.48: not shown. 2, 2.1, 1.9: shown."""
    assert verdict([1, 2, 3], [0, 0, 0]) == "no difference shown"
    assert verdict([2, 2.1, 1.9], [0, 0, 0]) == "better"
    assert verdict([2, 2.1, 1.9], [0, 0, 0], higher_is_better=False) == "worse"
    assert verdict([2, 2.1, 1.9], [0, 0, 0], margin=1.9) == "no difference shown"
    assert verdict([5, 5, 5], [5, 5, 5]) == "no difference shown"
    assert verdict([6, 6, 6], [5, 5, 5.1]) == "better" and verdict([6, 7, 8], [5, 6, 7]) == "better"


def test_a_difference_within_rounding_shows_nothing():
    """0.1 + 0.2 exceeds 0.3 by one unit in its last place, for every seed alike: an interval of width 0 above 0."""
    assert verdict([0.1 + 0.2] * 3, [0.3] * 3) == "no difference shown"
    assert verdict([0.1 + 0.2, 0.7, 0.6 + 0.3], [0.3, 0.7, 0.9], higher_is_better=False) == "no difference shown"
    assert verdict([0.5 + 1e-12, 0.6 + 1e-12, 0.7 + 1e-12], [0.5, 0.6, 0.7]) == "better"  # far above 4 epsilon, and steady


def test_one_run_counted_three_times_is_refused_but_one_constant_arm_is_not():
    """Two constants that differ carry no spread over seeds. Rounding without training can make one arm constant."""
    for c, b in ((0.982, 0.981), (0.5, 0.9)):
        with pytest.raises(ValueError, match=r"no spread: .*different seeds"):
            verdict([c] * 3, [b] * 3)
    assert verdict([0.982] * 3, [0.9, 0.901, 0.899]) == "better"
    assert verdict([0.9, 0.901, 0.899], [0.982] * 3) == "worse"


def test_numbers_may_come_as_tensors():
    """Accuracies out of torch are numbers too; the hook of the tests aside, a list of 0-d tensors is read as floats."""
    assert claims._numbers("f", "v", torch.tensor([1.0, 2.0])) == [1.0, 2.0]


def test_pairing_matters():
    """Every seed gains 0.1 while seeds differ by 10: unpaired, nothing could be seen."""
    baseline = [0.0, 10.0, 20.0]
    candidate = [b + g for b, g in zip(baseline, (0.10, 0.11, 0.09))]
    assert verdict(candidate, baseline) == "better"
    assert stats.ttest_ind(candidate, baseline).pvalue > 0.9


def test_equals_are_told_apart_about_once_in_twenty():
    """1,000 comparisons of the same method: 5 % false verdicts, standard deviation 0.69 %."""
    draws = torch.randn(1000, 2, 3, dtype=torch.float64).tolist()
    false = sum(verdict(c, b) != "no difference shown" for c, b in draws)
    assert abs(false / 1000 - 0.05) < 5 * 0.0069


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_scipys_binomial_test(broken, mended):
    expected = stats.binomtest(broken, broken + mended).pvalue if broken + mended else 1.0
    assert mcnemar_p(broken, mended) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(broken, mended) == mcnemar_p(mended, broken)


def test_hand_examples_of_mcnemar():
    """0 against 5: 2 / 2^5. Beyond a thousand flips 2^-n is below float64's smallest number; the test still answers."""
    assert mcnemar_p(0, 5) == 0.0625 and mcnemar_p(0, 0) == 1.0 and mcnemar_p(3, 3) == 1.0
    assert 0.5 < mcnemar_p(2500, 2510) < 1


def test_one_test_set_tells_two_networks_apart_or_does_not():
    """6 broken and none mended: p = 2/64 < 0.05. 5 broken: p = 2/32 > 0.05."""
    labels = torch.zeros(20, dtype=torch.int64)
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    good = right.repeat(20, 1)
    for n, expected in ((5, "no difference shown"), (6, "worse")):
        candidate = torch.stack([wrong] * n + [right] * (20 - n))
        assert verdict_on_test_set(candidate, good, labels) == expected
    assert verdict_on_test_set(good, candidate, labels) == "better"
    assert verdict_on_test_set(good, good, labels) == verdict_on_test_set(good, good, labels, confidence=0.5)
    assert verdict_on_test_set(good, candidate, labels, confidence=0.99) == "no difference shown"


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: verdict([1, 2], [1, 2]), "at least 3"),
        (lambda: verdict([1, 2, 3], [1, 2]), "3 candidate values, 2"),
        (lambda: verdict([1, 2, math.nan], [1, 2, 3]), r"verdict: candidate\[2\].*finite.*nan"),
        (lambda: verdict([1, 2, 3], [1, "2", 3]), r"verdict: baseline\[1\].*'2'"),
        (lambda: verdict([1, 2, 3], [1, 2, 3], confidence=1), "verdict: confidence must lie strictly"),
        (lambda: verdict([1, 2, 3], [1, 2, 3], margin=-1.0), "margin"),
        (lambda: verdict([1, 2, 3], [1, 2, 3], confidence=95.0), "did you mean 0.95"),
        (lambda: mean_interval([1.0]), "at least 2"),
        (lambda: mean_interval([1.0, 2.0], confidence=1.0), "strictly"),
        (lambda: mcnemar_p(-1, 2), "broken"),
        (lambda: mcnemar_p(1, -2), "mended"),
        (lambda: verdict_on_test_set(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([0]), confidence=2), "confidence"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("values", ["123", 3.0, None])
def test_what_is_no_list_is_refused_in_words(values, as_a_user):
    with pytest.raises(TypeError, match="verdict: candidate must be a list of numbers"):
        verdict(values, [1, 2, 3])
