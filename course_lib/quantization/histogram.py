r"""A histogram that grows with the data and does not care about their order (section 3.2, calibration).

Percentile, least squares and entropy need the distribution of all activations ever seen, which is too much to keep. A histogram
is small, but the range is unknown until the last batch. Rebinning by interpolation (as torch.ao's HistogramObserver does) makes
the result depend on the order of the batches. The way out is a grid of powers of two:

    (1)  bin k of width 2^e holds  k 2^e <= x < (k + 1) 2^e,      k = -n/2, ..., n/2 - 1
    (2)  e is the smallest integer with  max |x| < (n/2) 2^e
    (3)  when a larger value arrives, neighbours merge:  bin k of width 2^e goes to bin floor(k / 2) of width 2^(e+1)

(3) is exact, since floor(floor(x / 2^e) / 2) = floor(x / 2^(e+1)), and division by a power of two rounds nothing. So the counts
depend on the set of values alone: any order and any cutting into batches gives the same histogram, bit for bit (tested). The
price is that up to half the bins lie empty beyond the largest value.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib._check import check_count, check_fraction, check_tensor


class Histogram:
    r"""Counts of values in bins of a power-of-two width, equations (1) to (3) of this module.

    $$ k = \lfloor x / 2^e \rfloor, \qquad e = \min \{ e : \max|x| < \tfrac n2 2^e \} $$

    where n is `n_bins`, a multiple of 4. Attributes: `counts` (n_bins) int64, `exponent` e, `low` and `high`, the exact
    extremes seen.

    Raises ValueError for a number of bins that is no multiple of 4, and in `observe` for empty, NaN or infinite input.
    Source: the merging of dyadic bins is elementary; Migacz 2017 for its use in calibration.  Notebook: 03_2_quantization.
    """

    def __init__(self, n_bins: int = 8192):
        check_count("Histogram", "n_bins", n_bins, low=4)
        if n_bins % 4:
            raise ValueError(f"Histogram: n_bins must be a multiple of 4, so that neighbours can merge, got {n_bins}")
        self.n_bins = n_bins
        self.exponent = -1000  # finer than any float: a data set of zeros alone stays here
        self.counts = torch.zeros(n_bins, dtype=torch.int64)
        self.low, self.high = math.inf, -math.inf

    @property
    def width(self) -> float:
        """Width of a bin, in the unit of the data."""
        return 2.0**self.exponent

    @property
    def centres(self) -> Float[Tensor, "n_bins"]:
        """The middle of each bin, double precision."""
        return (torch.arange(self.n_bins, dtype=torch.float64) - self.n_bins // 2 + 0.5) * self.width

    @property
    def n_values(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Count the values of one batch, widening the bins first where they do not reach."""
        check_tensor("Histogram.observe", "X", X)
        X = X.detach().double().flatten()
        self.low, self.high = min(self.low, float(X.min())), max(self.high, float(X.max()))
        largest = max(abs(float(X.min())), abs(float(X.max())))
        if largest > 0:
            # frexp: largest / (n/2) = m 2^e with m in [0.5, 1), so e is the exponent of (2).
            self._widen_to(math.frexp(largest / (self.n_bins // 2))[1])
        k = (X / self.width).floor().long() + self.n_bins // 2
        self.counts += torch.bincount(k, minlength=self.n_bins)

    def _widen_to(self, exponent: int) -> None:
        """Merge neighbours until the bins have width 2^exponent; never narrows."""
        if exponent <= self.exponent:
            return
        k = torch.arange(self.n_bins) - self.n_bins // 2
        k = k >> min(exponent - self.exponent, 62)  # an arithmetic shift is a floor division by a power of two
        self.counts = torch.zeros_like(self.counts).index_add_(0, k + self.n_bins // 2, self.counts)
        self.exponent = exponent

    def _check_observed(self) -> None:
        if self.n_values == 0:
            raise ValueError("Histogram: nothing was observed yet; call observe(X) with at least one batch")

    def quantile(self, share: float) -> float:
        r"""The upper edge of the bin in which the share of values at or below reaches `share`, held within [low, high].

        At most one bin width above the exact quantile. ValueError before anything was observed, or for a share outside [0, 1].
        """
        check_fraction("Histogram.quantile", "share", share)
        self._check_observed()
        reached = self.counts.cumsum(0).double()
        k = int(torch.searchsorted(reached, torch.tensor(share * self.n_values, dtype=torch.float64)))
        edge = (min(k, self.n_bins - 1) - self.n_bins // 2 + 1) * self.width
        return min(max(edge, self.low), self.high)

    def magnitudes(self) -> Float[Tensor, "half"]:
        """Counts of |x| in bins of the same width, from 0 to the last bin that is not empty; ValueError without data."""
        self._check_observed()
        half = self.n_bins // 2
        folded = (self.counts[half:] + self.counts[:half].flip(0)).double()
        return folded[: max(1, int(folded.nonzero().max()) + 1)]
