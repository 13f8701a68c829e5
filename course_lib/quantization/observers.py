r"""Calibration: which range should the codes of an activation cover? (section 3.2)

The weights of a network are known; its activations appear batch by batch, and a few of them are far larger than the rest. A
wide range makes every step coarse, a narrow one saturates the large values. Each class below watches batches with `observe(X)`
and then answers with `qparams(n_bits, symmetric, signed)`; they differ only in the range [low, high]:

    (1)  min-max          low = min x,  high = max x                                 nothing saturates
    (2)  moving average   low <- low + a (min X_t - low),  high likewise             one odd batch counts little
    (3)  percentile       low = Q(1 - keep),  high = Q(keep)                         a fixed share saturates
    (4)  least squares    [min, max] cut to [-T, T], T <= max |x|, of least E (x - x_hat)^2
    (5)  entropy          the T of least KL( P || Q ) over histograms of |x|, see `EntropyObserver`

(1), (3), (4) and (5) depend on the set of values alone: any order of the batches, any cutting, gives the same answer (tested;
`histogram.py` says why). (2) is an average over time and depends on the order by design.

(3) to (5) differ in what they hold dear: a share, an error, a distribution. None of them looks at the loss of the network; the
chapter measures which one it agrees with. Left out: ranges for each channel of an activation (they cannot be taken out of the
sum over channels) and ranges chosen anew for each input (dynamic quantization, chapter 04_2).

Production: torch.ao has MinMaxObserver, MovingAverageMinMaxObserver and HistogramObserver (a squared-error search that moves
both ends); TensorRT's default calibrator is (5); its percentile calibrator is (3).
"""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from course_lib._check import check_count, check_fraction, check_number, check_tensor
from course_lib.quantization.affine import choose_qparams, dequantize, integer_range, quantize
from course_lib.quantization.histogram import Histogram


class _Observer:
    """What all of them share: a range is turned into a scale and a zero point in one way."""

    def qparams(
        self, n_bits: int = 8, symmetric: bool = False, signed: bool = False
    ) -> tuple[Float[Tensor, ""], Integer[Tensor, ""]]:
        r"""Scale and zero point of the range found, by equations (3) and (4) of `affine.py`.

        $$ (s, z) = \mathrm{choose\_qparams}(low, high, b) $$

        where low and high are those of `clip_range`. n_bits: b, bits a code.  symmetric: z = 0.  signed: codes from
        $-2^{b-1}$, else from 0.  Returns s (of torch's default float type) and z (int32), both of shape ().
        Raises ValueError before anything was observed, for an impossible `n_bits`, and for unsigned symmetric codes of data
        with negative values.
        Source: Jacob et al. 2018, section 3.  Notebook: 03_2_quantization.
        """
        low, high = self.clip_range(n_bits, symmetric, signed)
        self._check_observed(low <= high)
        # Double, as in the searches: [-T, T] puts the affine zero point on a tie, and float32 could fall on its other side.
        ends = (torch.tensor(end, dtype=torch.float64) for end in (low, high))
        s, z = choose_qparams(*ends, n_bits, symmetric, signed)
        return s.to(torch.get_default_dtype()), z

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """The range [low, high] outside which values saturate; ValueError while nothing was observed."""
        raise NotImplementedError

    def _check_batch(self, X: Tensor) -> Tensor:
        """The batch without its graph; what no observer can look at is refused in the name of this one."""
        check_tensor(f"{type(self).__name__}.observe", "X", X)
        if X.is_complex() or X.dtype == torch.bool:
            raise ValueError(f"{type(self).__name__}.observe: X must hold real numbers, got {X.dtype}")
        return X.detach()

    def _check_observed(self, observed: bool) -> None:
        if not observed:
            raise ValueError(f"{type(self).__name__}: nothing was observed yet; call observe(X) with at least one batch")


class MinMaxObserver(_Observer):
    r"""The range from the smallest to the largest value seen, equation (1) of this module.

    $$ low = \min_{t} \min X_t, \qquad high = \max_{t} \max X_t $$

    where $X_t$ is batch t.

    Raises ValueError in `observe` for an empty, NaN or infinite batch.
    Source: Krishnamoorthi 2018, section 3.1.  Notebook: 03_2_quantization.
    """

    def __init__(self):
        self.low, self.high = math.inf, -math.inf

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Look at one batch of activations, of any shape."""
        X = self._check_batch(X)
        self.low, self.high = min(self.low, float(X.min())), max(self.high, float(X.max()))

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """All that was seen."""
        self._check_observed(self.low <= self.high)
        return self.low, self.high


class MovingAverageObserver(_Observer):
    r"""Exponential averages of each batch's extremes, equation (2) of this module.

    $$ low \leftarrow low + a\,(\min X_t - low), \qquad high \leftarrow high + a\,(\max X_t - high) $$

    where $a$ is `rate`; the first batch sets both. The memory is about 1/a batches long, and the order counts.

    Raises ValueError for a rate outside [0, 1], and in `observe` for an empty, NaN or infinite batch.
    Source: Jacob et al. 2018, section 3.1 (ranges of activations).  Notebook: 03_2_quantization.
    """

    def __init__(self, rate: float = 0.1):
        check_fraction("MovingAverageObserver", "rate", rate)
        self.rate, self.low, self.high = rate, math.inf, -math.inf

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Move both ends a share `rate` of the way to this batch's extremes."""
        X = self._check_batch(X)
        low, high = float(X.min()), float(X.max())
        if self.low > self.high:  # the first batch
            self.low, self.high = low, high
        self.low += self.rate * (low - self.low)
        self.high += self.rate * (high - self.high)

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """The averages as they stand."""
        self._check_observed(self.low <= self.high)
        return self.low, self.high


class PercentileObserver(_Observer):
    r"""The range that leaves a share `1 - keep` out at each end, equation (3) of this module.

    $$ low = Q(1 - keep), \qquad high = Q(keep) $$

    where $Q(p)$ is the value below which the share p of all activations lies, read from a histogram: at most one bin wide of
    the mark (the default has at least 2048 bins between 0 and the largest magnitude).

    Raises ValueError for `keep` outside [0.5, 1], and in `observe` for an empty, NaN or infinite batch.
    Source: McKinstry et al. 2019, section 3; Wu et al. 2020, section 5.  Notebook: 03_2_quantization.
    """

    def __init__(self, keep: float = 0.9999, n_bins: int = 8192):
        check_number("PercentileObserver", "keep", keep, low=0.5)
        check_fraction("PercentileObserver", "keep", keep)
        self.keep, self.histogram = keep, Histogram(n_bins)

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Count one batch."""
        self.histogram.observe(self._check_batch(X))

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """The two quantiles."""
        self._check_observed(self.histogram.n_values > 0)
        return self.histogram.quantile(1 - self.keep), self.histogram.quantile(self.keep)


class MSEObserver(_Observer):
    r"""The range of least mean squared error, equation (4) of this module.

    $$ T^* = \arg\min_{T} \sum_k N_k \bigl( x_k - \hat x_k(T) \bigr)^2, \qquad
       T \in \{1/n,\ 2/n,\ \dots,\ 1\} \cdot \max|x| $$

    where $x_k$ and $N_k$ are centre and count of bin k, and $\hat x_k(T)$ is the value quantized with the range seen, cut to
    [-T, T]; n is `n_candidates`. The answer depends on the bit width: few bits, narrow range.

    Raises ValueError for a count below 1, and in `observe` for an empty, NaN or infinite batch.
    Source: Sung et al. 2015; Choukroun et al. 2019; Banner et al. 2019 give the optimum for Gauss and Laplace.
    Notebook: 03_2_quantization.
    """

    def __init__(self, n_candidates: int = 100, n_bins: int = 8192):
        check_count("MSEObserver", "n_candidates", n_candidates)
        self.n_candidates, self.histogram = n_candidates, Histogram(n_bins)

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Count one batch."""
        self.histogram.observe(self._check_batch(X))

    def errors(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        r"""The search of equation (4) laid open: every candidate threshold and its error.

        $$ E(T) = \frac{\sum_k N_k (x_k - \hat x_k(T))^2}{\sum_k N_k},
           \qquad T = \tfrac{1}{n} \max|x|, \dots, \max|x| $$

        where $x_k$, $N_k$ are centre and count of bin k.  Returns the thresholds, ascending, in the unit of the data, and the
        mean squared error of each, in its square: both (n_candidates), double precision.
        Raises ValueError before anything was observed, or for an impossible `n_bits`.
        Source: Sung et al. 2015, section 3; Choukroun et al. 2019.  Notebook: 03_2_quantization.
        """
        self._check_observed(self.histogram.n_values > 0)
        full = self.histogram.counts > 0
        x, n = self.histogram.centres[full], self.histogram.counts[full].double()
        low, high = self.histogram.low, self.histogram.high
        T = torch.arange(1, self.n_candidates + 1, dtype=torch.float64) * max(abs(low), abs(high)) / self.n_candidates
        s, z = choose_qparams(T.neg().clamp(min=min(low, 0)), T.clamp(max=max(high, 0)), n_bits, symmetric, signed)
        s, z = s[:, None], z[:, None]  # (candidates, 1) against (bins)
        X = x.expand(len(T), -1)
        error = (dequantize(quantize(X, s, z, n_bits, signed), s, z) - X).square()
        return T, error @ n / n.sum()

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """The extremes seen, stretched to 0 and cut to the best [-T, T]; the widest of equals."""
        T, error = self.errors(n_bits, symmetric, signed)
        best = float(T[error == error.min()].max())
        return max(min(self.histogram.low, 0.0), -best), min(max(self.histogram.high, 0.0), best)


class EntropyObserver(_Observer):
    r"""TensorRT's calibration: the threshold whose quantized histogram is closest to the original, equation (5).

    $$ T^* = \arg\min_{T} \sum_k P_k \ln \frac{P_k}{Q_k} $$

    where, for T at the upper edge of bin i: P is the histogram of |x| up to bin i, the counts beyond T added to its last bin
    (they saturate there); Q takes the same bins *without* those counts, cut into as many equal stretches as the grid has levels
    from 0 to its longer end, each stretch's total spread evenly over its bins where P is not empty. That number is $2^{b-1}$
    for signed symmetric codes and $2^b$ for unsigned ones; affine codes share $2^b - 1$ steps out over the range seen, signed
    or not: all of them on one side after a ReLU, about half on each side of a bell. Both are
    normalized; a T whose Q is empty where P is not has infinite divergence. Clipping much, the last bin of P towers over that
    of Q; clipping little, the stretches blur the bulk: the minimum lies between.

    Exact zeros are not counted unless `count_zeros`: every grid holds 0, whatever T is, and after a ReLU the spike of half of
    all values in the first bin would decide alone (at 8 bits the recipe then clips much too much; the chapter shows it).
    NVIDIA's own tool blanks its first bin for the same reason.

    Raises ValueError in `observe` for an empty, NaN or infinite batch.
    Source: Migacz 2017 (8-bit inference with TensorRT), calibration algorithm.  Notebook: 03_2_quantization.
    """

    def __init__(self, n_bins: int = 4096, count_zeros: bool = False):
        self.histogram, self.count_zeros, self.n_zeros = Histogram(n_bins), count_zeros, 0

    def observe(self, X: Float[Tensor, "*shape"]) -> None:
        """Count one batch."""
        X = self._check_batch(X)
        self.histogram.observe(X)
        self.n_zeros += int((X == 0).sum())

    def divergences(self, n_levels: int) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
        r"""The search of equation (5) laid open: every threshold at a bin's edge and its divergence.

        $$ D(T_i) = \sum_{k \le i} P_k \ln \frac{P_k}{Q_k},
           \qquad T_i = i \cdot \text{width of a bin}, \quad i \ge n_{\text{levels}} $$

        where P and Q are those of the class, and `n_levels` is the number of levels from 0 outward.  Returns the thresholds,
        ascending, in the unit of the data, and KL(P || Q) of each, in nats: one threshold only where all data lie in few bins.
        Raises ValueError before anything was observed, or for fewer than one level.
        Source: Migacz 2017, calibration algorithm.  Notebook: 03_2_quantization.
        """
        check_count("EntropyObserver.divergences", "n_levels", n_levels)
        self._check_observed(self.histogram.n_values > 0)
        counts = self.histogram.magnitudes()
        counts[0] -= 0 if self.count_zeros else self.n_zeros
        i = torch.arange(min(n_levels, len(counts)), len(counts) + 1)  # how many bins are kept
        return i.double() * self.histogram.width, _divergences(counts, i, n_levels)

    def clip_range(self, n_bits: int, symmetric: bool, signed: bool) -> tuple[float, float]:
        """The extremes seen, stretched to 0 and cut to the best [-T, T]; the widest of equals."""
        self._check_observed(self.histogram.n_values > 0)
        T, divergence = self.divergences(self._levels_outward(n_bits, symmetric, signed))
        best = float(T[divergence == divergence.min()].max())
        return max(min(self.histogram.low, 0.0), -best), min(max(self.histogram.high, 0.0), best)

    def _levels_outward(self, n_bits: int, symmetric: bool, signed: bool) -> int:
        """How many levels the grid has from 0 to its longer end, 0 counted."""
        q_min, q_max = integer_range(n_bits, signed)
        if symmetric:
            return q_max + 1
        low, high = min(self.histogram.low, 0.0), max(self.histogram.high, 0.0)
        share = max(-low, high) / (high - low) if low < high else 1.0
        return 1 + round(share * (q_max - q_min))


def _divergences(counts: Tensor, i: Tensor, n_levels: int) -> Tensor:
    """KL(P || Q) for each number i of bins kept, by cumulative sums: inside a stretch Q is constant, so only totals matter.

    sum_k P_k ln P_k - sum over stretches of (P's total) ln(Q's value); a test spells the recipe out bin by bin.
    """
    zero = torch.zeros(1, dtype=torch.float64)
    below = torch.cat([zero, counts.cumsum(0)])  # below[i]: how many values lie in the first i bins
    filled_below = torch.cat([zero, (counts > 0).double().cumsum(0)])
    n, tail = below[-1], below[-1] - below[i]
    share = counts / n
    p_log_p = torch.cat([zero, torch.special.xlogy(share, share).cumsum(0)])
    last = (counts[i - 1] + tail) / n
    # Bin k of the first i belongs to stretch floor(k n_levels / i), so stretch j begins at bin ceil(j i / n_levels).
    begin = (torch.arange(n_levels + 1) * i[:, None] + n_levels - 1) // n_levels  # (i, n_levels + 1)
    total, filled = below[begin].diff(dim=1), filled_below[begin].diff(dim=1)
    # Which stretch holds the last bin: the last one, unless there are fewer bins than stretches.
    row, end = torch.arange(len(i)), (i - 1) * n_levels // i
    filled[row, end] += (counts[i - 1] == 0) & (tail > 0)
    P = total / n
    P[row, end] += tail / n
    Q = total / filled.clamp(min=1) / below[i][:, None]
    # xlogy(0, 0) = 0, and a positive P over an empty Q gives infinity. No value below the threshold: 0 / 0, no Q at all.
    divergence = p_log_p[i - 1] + torch.special.xlogy(last, last) - torch.special.xlogy(P, Q).sum(dim=1)
    return divergence.nan_to_num(nan=math.inf, posinf=math.inf)
