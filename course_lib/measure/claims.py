r"""Better, worse, or no difference shown (DESIGN: the protocol for a claim; section 7.1 of the document).

A network trained with another seed is another network. A method that won once may have had the luckier seed; so a claim in this
course rests on several seeds, and the verdict is one of three. "No difference shown" is not "equal": it says that these
runs could not tell.

    (1)  d_i  =  candidate_i - baseline_i                              same seed, same data, same budget: a pair
    (2)  mean(d)  +-  t_{n-1} std(d) / sqrt(n)                         Student's interval for the mean difference
    (3)  better   if the whole interval lies above  +margin
         worse    if it lies below  -margin,        otherwise no difference shown
    (4)  p  =  min(1, 2 P( Bin(b + m, 1/2) <= min(b, m) ))             two models on one test set (McNemar's exact test)

(2) assumes that differences between seeds are roughly Gaussian; with 3 seeds nothing can be checked and t is 4.30, so only
clear effects are shown, which is the intention. Two things are settled before (2), because its width would be 0 there:
differences no larger than the rounding of the values themselves show nothing (0.1 + 0.2 is not better than 0.3); and two lists
in which nothing varies at all, and which differ, are one run each, counted n times: no claim, they are refused. One constant
list is allowed (rounding without training can give the same accuracy for every seed). (A test that assumes nothing, flipping
the signs of the d_i, has with 3 seeds a smallest p of 2/8 and could never speak.)

(4) looks at the b samples only the first model gets right and the m only the second does; the samples on which both agree say
nothing about the difference. It judges two trained networks, not two methods.

Left out: corrections for many comparisons. At confidence 0.95 one in twenty comparisons of equals ends in a verdict: a table of
forty rows needs a stricter `confidence`. `scipy.stats` has t and the binomial; the tests compare.
"""

import math
import sys
from collections.abc import Sequence
from functools import cache
from statistics import fmean, stdev

from jaxtyping import Float, Int
from torch import Tensor

from course_lib._check import check_count, check_fraction, check_number
from course_lib.measure.quality import flips


def _t_probability(t: float, df: int) -> float:
    """P(|T| <= t) for Student's t with a whole number of degrees of freedom: a finite sum (Abramowitz & Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(df))
    c, s = math.cos(angle), math.sin(angle)
    term, total = (c, c) if df % 2 else (1.0, 1.0)
    for k in range(3 if df % 2 else 2, df - 1, 2):
        term *= c * c * (k - 1) / k
        total += term
    if df == 1:
        return 2 * angle / math.pi
    return 2 / math.pi * (angle + s * total) if df % 2 else s * total


@cache
def _t_quantile(confidence: float, df: int) -> float:
    """The t with P(|T| <= t) = confidence, by bisection to the last bit."""
    low, high = 0.0, 1.0
    while _t_probability(high, df) < confidence:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_probability(middle, df) < confidence else (low, middle)
    return high


def _numbers(who: str, name: str, values) -> list[float]:
    """The values as plain floats, each one checked; text, a single number or NaN is refused by its own name."""
    if not hasattr(values, "__iter__") or isinstance(values, str):
        raise TypeError(f"{who}: {name} must be a list of numbers, one a run, got {values!r}")
    plain = [value.item() if isinstance(value, Tensor) and value.ndim == 0 else value for value in values]
    for i, value in enumerate(plain):
        check_number(who, f"{name}[{i}]", value)
    return [float(value) for value in plain]


def _check_confidence(who: str, confidence) -> None:
    check_fraction(who, "confidence", confidence)
    if confidence in (0, 1):
        raise ValueError(f"{who}: confidence must lie strictly between 0 and 1, got {confidence}")


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    r"""Student's interval for the mean of a few measurements, eq. (2).

    $$ \bar d \pm t_{n-1} \frac{s}{\sqrt n}, \qquad s^2 = \frac1{n-1} \sum_i (d_i - \bar d)^2 $$

    where $t_{n-1}$ is the two-sided quantile of Student's distribution (4.30 for n = 3 at 0.95, 2.78 for n = 5). n equal values
    give an interval of width 0.

    Raises ValueError for fewer than 2 values, NaN, infinity or text among them, or confidence outside (0, 1); TypeError for
    what is no list.
    Source: Student 1908, table for z, in Fisher's form.  Notebook: 02_2_training.
    """
    values = _numbers("mean_interval", "values", values)
    if len(values) < 2:
        raise ValueError(f"mean_interval: {len(values)} value(s) have no spread; measure at least 2")
    _check_confidence("mean_interval", confidence)
    half = _t_quantile(confidence, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def verdict(
    candidate: Sequence[float],
    baseline: Sequence[float],
    higher_is_better: bool = True,
    confidence: float = 0.95,
    margin: float = 0.0,
) -> str:
    r"""Is the candidate better than the baseline, over seeds? "better", "worse" or "no difference shown", eqs. (1)-(3).

    $$ \bar d - t_{n-1} \frac{s}{\sqrt n} > \text{margin} \;\Rightarrow\; \text{better}, \qquad
       \bar d + t_{n-1} \frac{s}{\sqrt n} < -\text{margin} \;\Rightarrow\; \text{worse} $$

    candidate, baseline: one value a seed, in the same order of seeds (accuracy; or error rates, bytes, seconds with
    `higher_is_better=False`).  margin: the smallest difference worth a claim, in the unit of the values. Differences within the
    rounding of the values (4 epsilon of the largest) show nothing.

    Raises ValueError for fewer than 3 seeds, lists of different length, NaN or text, a negative margin, confidence outside
    (0, 1), and where both lists repeat one value and differ (one run, copied, is no spread over seeds); TypeError for no list.
    Source: paired t-test, Student 1908; several seeds, Bouthillier et al. 2021 (MLSys).
    Notebook: 02_2_training.
    """
    candidate, baseline = _numbers("verdict", "candidate", candidate), _numbers("verdict", "baseline", baseline)
    if len(candidate) != len(baseline):
        raise ValueError(f"verdict: {len(candidate)} candidate values, {len(baseline)} of the baseline; pairs share a seed")
    if len(candidate) < 3:
        raise ValueError(f"verdict: {len(candidate)} seed(s) are too few for a claim; run at least 3")
    check_number("verdict", "margin", margin, low=0.0)
    _check_confidence("verdict", confidence)
    sign = 1 if higher_is_better else -1
    differences = [sign * (c - b) for c, b in zip(candidate, baseline)]
    rounding = 4 * sys.float_info.epsilon * max(map(abs, candidate + baseline))
    if max(map(abs, differences)) <= rounding:
        return "no difference shown"
    if max(candidate) - min(candidate) <= rounding and max(baseline) - min(baseline) <= rounding:
        raise ValueError(
            f"verdict: no spread: all candidate values are {candidate[0]:g}, all of the baseline {baseline[0]:g}; were these "
            "different seeds? One run counted several times supports no claim"
        )
    low, high = mean_interval(differences, confidence)
    return "better" if low > margin else "worse" if high < -margin else "no difference shown"


def mcnemar_p(broken: int, mended: int) -> float:
    r"""McNemar's exact test: how surprising `broken` against `mended` is if both directions are equally likely, eq. (4).

    $$ p = \min\Bigl(1,\; 2 \sum_{k=0}^{\min(b, m)} \binom{b+m}{k} 2^{-(b+m)} \Bigr) $$

    where b is `broken` (only the first model right) and m `mended` (only the second). No flips at all: p = 1.

    Raises ValueError for negative counts.
    Source: McNemar 1947; exact form, Dietterich 1998, section 3.1.  Notebook: 02_2_training.
    """
    check_count("mcnemar_p", "broken", broken, low=0)
    check_count("mcnemar_p", "mended", mended, low=0)
    n = broken + mended
    # Whole numbers until the last division: 2^-n underflows in floating point beyond a thousand flips.
    ways = tail = 1  # n over 0
    for k in range(min(broken, mended)):
        ways = ways * (n - k) // (k + 1)  # n over k + 1
        tail += ways
    return min(1.0, 2 * tail / 2**n)


def verdict_on_test_set(
    candidate: Float[Tensor, "n C"], baseline: Float[Tensor, "n C"], labels: Int[Tensor, "n"], confidence: float = 0.95
) -> str:
    r"""Are two trained networks told apart by one test set? "better", "worse" or "no difference shown", eq. (4).

    $$ p \le 1 - \text{confidence} \;\Rightarrow\; \text{better if mended} > \text{broken, else worse} $$

    candidate, baseline: logits of the two models on the same n samples. About these two networks only: a claim about the
    methods that made them needs seeds and `verdict`.

    Raises ValueError for empty, NaN or mismatched input, labels that are no class, or confidence outside (0, 1).
    Source: McNemar 1947; Dietterich 1998, section 3.1.  Notebook: 02_2_training.
    """
    _check_confidence("verdict_on_test_set", confidence)
    changed = flips(baseline, candidate, labels)
    if changed.mended == changed.broken or mcnemar_p(changed.broken, changed.mended) > 1 - confidence:
        return "no difference shown"
    return "better" if changed.mended > changed.broken else "worse"
