r"""How good can a quantizer be? The Gaussian bound, and four quantizers measured against it (section 3.2).

Weights of a trained layer are roughly Gaussian. For a Gaussian source, information theory says what no quantizer can beat,
however clever: with R bits a value, the mean squared error is at least

    (1)  D(R)  =  sigma^2 2^(-2R)                                6.02 dB a bit
    (2)  gap   =  R - (1/2) log2(sigma^2 / D)                    bits a value wasted by a quantizer of rate R, error D

A scalar quantizer cuts the line at thresholds t_1 < ... < t_{K-1} and answers with a level c_k in each cell. With phi and Phi
the density and the distribution function of the unit Gaussian, every integral is exact:

    (3)  p_k   =  Phi(t_{k+1}) - Phi(t_k)                        how often cell k is hit
    (4)  m_k   =  (phi(t_k) - phi(t_{k+1})) / p_k                its centroid, E[x | x in cell k]
    (5)  D     =  1 - sum_k p_k (2 c_k m_k - c_k^2)              with c_k = m_k:  D = 1 - sum_k p_k m_k^2
    (6)  R     =  log2 K   (fixed length)    or    -sum_k p_k log2 p_k   (behind an ideal entropy coder)

    quantizer                    thresholds                        at R = 2:  D         gap
    uniform, best step           equal steps, levels half-way                 0.118846  0.464 bit
    Lloyd-Max                    midpoints of levels = centroids              0.117482  0.455 bit
    uniform + entropy coding     equal steps, levels = centroids              0.088941  0.2545 bit
    the bound                    -                                            0.0625    0

(7) For fine steps the last gap tends to (1/2) log2(2 pi e / 12) = 0.2546 bit = 1.53 dB, at every rate: a cube covers space
that much worse than a ball. Only codes for many values at once (lattices, trellises) go below it. Note what (6) says about
k-means: placing levels well saves 0.009 bit, letting an entropy coder follow saves 0.2 bit.

Left out: vector and trellis-coded quantizers. Production: bitsandbytes' NF4 is another fixed choice of levels (quantiles).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from course_lib._check import check_count, check_number, check_tensor
from course_lib.quantization.codebook import codebook_distortion, kmeans_codebook

REACH = 40.0  # beyond 38 sigma the density is 0 in double precision
SPACE_FILLING_GAP_BITS = 0.5 * math.log2(2 * math.pi * math.e / 12)  # eq. (7)


class ScalarQuantizer(NamedTuple):
    r"""K levels, K-1 thresholds, and what they cost on the unit Gaussian (or on the samples given).

    $$ Q(x) = c_k \quad\text{for}\quad t_k < x \le t_{k+1} $$

    distortion: D, squared unit of x.  entropy_bits: eq. (6), right; bits a value.
    Source: Gersho and Gray 1992, chapter 5.  Notebook: 03_2_quantization.
    """

    levels: Float64[Tensor, "n_levels"]
    thresholds: Float64[Tensor, "n_thresholds"]
    distortion: float
    entropy_bits: float


def gaussian_distortion_rate(rate_bits: float, sigma: float = 1.0) -> float:
    r"""The least mean squared error any quantizer can have on a Gaussian source, eq. (1).

    $$ D(R) = \sigma^2 \, 2^{-2R} $$

    rate_bits: R >= 0, bits a value.  sigma: standard deviation, > 0.
    Raises ValueError for a negative rate or sigma <= 0.
    Source: Shannon 1959; Cover and Thomas 2006, theorem 10.3.2.  Notebook: 03_2_quantization.
    """
    check_number("gaussian_distortion_rate", "rate_bits", rate_bits, low=0)
    check_number("gaussian_distortion_rate", "sigma", sigma, above=0)
    return sigma**2 * 2.0 ** (-2 * rate_bits)


def rate_gap_bits(distortion: float, rate_bits: float, sigma: float = 1.0) -> float:
    r"""Bits a value spent beyond what the bound asks for at the same distortion, eq. (2).

    $$ \mathrm{gap} = R - \tfrac12 \log_2 \frac{\sigma^2}{D} $$

    Negative only if the source is not Gaussian (Gaussian is the hardest of a given variance) or D was estimated.
    Raises ValueError for a negative rate, D <= 0 or sigma <= 0.
    Source: the inverse of Cover and Thomas 2006, theorem 10.3.2.  Notebook: 03_2_quantization.
    """
    check_number("rate_gap_bits", "rate_bits", rate_bits, low=0)
    check_number("rate_gap_bits", "distortion", distortion, above=0)
    check_number("rate_gap_bits", "sigma", sigma, above=0)
    return rate_bits - 0.5 * math.log2(sigma**2 / distortion)


def gaussian_cells(
    thresholds: Float[Tensor, "n_thresholds"],
) -> tuple[Float64[Tensor, "n_levels"], Float64[Tensor, "n_levels"]]:
    r"""Probability and centroid of each cell of the unit Gaussian, eq. (3) and (4), in double precision.

    $$ p_k = \Phi(t_{k+1}) - \Phi(t_k), \qquad m_k = \frac{\varphi(t_k) - \varphi(t_{k+1})}{p_k} $$

    with $t_0 = -\infty$, $t_K = \infty$. A cell whose probability underflows gets its middle as centroid.
    Raises ValueError where the thresholds are not ascending or not finite. No threshold at all means one cell.
    Source: Max 1960, equations 3 and 4.  Notebook: 03_2_quantization.
    """
    if thresholds.numel():
        check_tensor("gaussian_cells", "thresholds", thresholds, ndim=1)
    if bool((thresholds.diff() < 0).any()):
        raise ValueError("gaussian_cells: thresholds must be ascending")
    t = torch.cat([torch.tensor([-REACH]), thresholds.double(), torch.tensor([REACH])]).double()
    # On the right half 1 - Phi is taken instead of Phi: differences of numbers near 1 would lose the tail.
    below, above = torch.special.erfc(-t / math.sqrt(2)) / 2, torch.special.erfc(t / math.sqrt(2)) / 2
    p = torch.where(t[:-1] > 0, -above.diff(), below.diff())
    phi = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    middle = (t[:-1] + t[1:]) / 2
    m = torch.where(p > 1e-280, -phi.diff() / p.clamp(min=1e-300), middle)
    return p, m.clamp(t[:-1], t[1:])  # rounding in a far cell must not carry the centroid out of it


def gaussian_quantizer(levels: Float[Tensor, "n_levels"], thresholds: Float[Tensor, "n_thresholds"]) -> ScalarQuantizer:
    r"""Judge any levels and thresholds on the unit Gaussian by exact integrals, eq. (5) and (6).

    $$ D = 1 - \sum_k p_k \,(2 c_k m_k - c_k^2), \qquad R = -\sum_k p_k \log_2 p_k $$

    Raises ValueError unless there is one threshold fewer than levels, both ascending and finite.
    Source: Max 1960, equation 1, with the square multiplied out.  Notebook: 03_2_quantization.
    """
    check_tensor("gaussian_quantizer", "levels", levels, ndim=1)
    if thresholds.numel() != levels.numel() - 1:
        raise ValueError(f"gaussian_quantizer: {levels.numel()} levels need {levels.numel() - 1} thresholds")
    p, m = gaussian_cells(thresholds)
    c = levels.double()
    distortion = float(1 - (p * (2 * c * m - c.square())).sum())
    return ScalarQuantizer(c, thresholds.double(), distortion, float(torch.special.entr(p).sum()) / math.log(2))


def lloyd_max(n_levels: int, samples: Float[Tensor, "n"] | None = None, n_iterations: int = 1000) -> ScalarQuantizer:
    r"""The best K levels at fixed length: each threshold half-way, each level the centroid of its cell.

    $$ t_k = \tfrac12 (c_{k-1} + c_k), \qquad c_k = m_k $$

    Lloyd's iteration sets one from the other in turn, but needs of the order of K^2 rounds. Here Newton's method solves
    $c - m(t(c)) = 0$, whose Jacobian has three diagonals, in about six, from $c_k = \sqrt3\,\Phi^{-1}((k + \tfrac12)/K)$: the
    density proportional to $\varphi^{1/3}$ that is best for many levels. With `samples`, the same two conditions on the
    samples instead of the Gaussian (`kmeans_codebook`, at most `n_iterations` rounds), D and entropy included.
    Raises ValueError for n_levels < 1 or bad samples.
    Source: Lloyd 1982; Max 1960, equations 3 and 4; start: Panter and Dite 1951.  Notebook: 03_2_quantization.
    """
    check_count("lloyd_max", "n_levels", n_levels)
    if samples is not None:
        check_tensor("lloyd_max", "samples", samples, ndim=1)
        c, codes = kmeans_codebook(samples.double(), n_levels, "density", n_iterations)
        p = codes.bincount(minlength=n_levels).double() / codes.numel()
        distortion = codebook_distortion(samples.double(), c, codes)
        return ScalarQuantizer(c, (c[:-1] + c[1:]) / 2, distortion, float(torch.special.entr(p).sum()) / math.log(2))
    c = math.sqrt(3) * torch.special.ndtri((torch.arange(n_levels, dtype=torch.float64) + 0.5) / n_levels)
    for _ in range(50):
        step = _newton_step(c)
        c = c - step
        if float(step.abs().max()) < 1e-13:
            break
    return gaussian_quantizer(c, (c[:-1] + c[1:]) / 2)


def _newton_step(c: Tensor) -> Tensor:
    """J^-1 (c - m), with dm_k/dt_k = phi(t_k) (m_k - t_k) / p_k, dm_k/dt_{k+1} likewise, and dt/dc = 1/2 on both sides."""
    t = (c[:-1] + c[1:]) / 2
    p, m = gaussian_cells(t)
    phi = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    below = phi * (m[1:] - t) / p[1:] / 2  # (K-1): cell k+1 feels its lower threshold
    above = phi * (t - m[:-1]) / p[:-1] / 2  # (K-1): cell k feels its upper threshold
    J = torch.eye(c.numel(), dtype=c.dtype) - torch.diag(below, -1) - torch.diag(above, 1)
    J -= torch.diag(torch.cat([below.new_zeros(1), below]) + torch.cat([above, above.new_zeros(1)]))
    return torch.linalg.solve(J, c - m)


def uniform_quantizer(n_levels: int, step: float | None = None) -> ScalarQuantizer:
    r"""K equal steps around zero, levels half-way between thresholds; the step with the least error unless one is given.

    $$ t_k = s\,(k - \tfrac K2), \; k = 1 \dots K-1, \qquad c_k = s\,(k - \tfrac{K-1}2), \; k = 0 \dots K-1 $$

    step: s, in standard deviations.  The best step balances rounding in the middle against clipping at both ends.
    Raises ValueError for n_levels < 2 or a step <= 0.
    Source: Max 1960, table II.  Notebook: 03_2_quantization.
    """
    check_count("uniform_quantizer", "n_levels", n_levels, low=2)
    centred = torch.arange(n_levels, dtype=torch.float64) - (n_levels - 1) / 2

    def judged(s: float) -> ScalarQuantizer:
        return gaussian_quantizer(s * centred, s * (centred[:-1] + 0.5))

    if step is not None:
        check_number("uniform_quantizer", "step", step, above=0)
        return judged(step)
    # Golden section: D(s) has one minimum. At 4 / K steps span 4 sigma, at 16 / K they span 16.
    low, high, golden = 0.0 + 1e-9, 16 / n_levels, (math.sqrt(5) - 1) / 2
    while high - low > 1e-8:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if judged(a).distortion < judged(b).distortion else (a, high)
    return judged((low + high) / 2)


def entropy_coded_scalar(rate_bits: float) -> ScalarQuantizer:
    r"""Equal steps without end, levels at the centroids, as fine as an entropy coder of R bits a value allows.

    $$ t_k = (k - \tfrac12)\, s, \quad k \in \mathbb{Z}, \qquad c_k = m_k, \qquad -\sum_k p_k \log_2 p_k = R $$

    The step s follows from R by bisection (the entropy falls as the step grows). One cell is centred on zero: at low rates
    it swallows most values, which is pruning. At 2 bits the gap to the bound is 0.2545 bit, eq. (7).
    rate_bits: R in (0, 8].
    Raises ValueError for a rate outside that.
    Source: Gish and Pierce 1968; Farvardin and Modestino 1984.  Notebook: 03_2_quantization.
    """
    check_number("entropy_coded_scalar", "rate_bits", rate_bits, above=0)
    if rate_bits > 8:
        raise ValueError(f"entropy_coded_scalar: rate_bits must be <= 8, got {rate_bits!r}")

    def judged(s: float) -> ScalarQuantizer:
        n = math.ceil(9 / s)  # cells beyond 9 sigma hold 1e-19 of the probability
        thresholds = (torch.arange(-n, n, dtype=torch.float64) + 0.5) * s
        return gaussian_quantizer(gaussian_cells(thresholds)[1], thresholds)

    low, high = 0.005, 17.0  # 9.7 bits and, with one cell up to 8.5 sigma, next to none
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if judged(middle).entropy_bits > rate_bits else (low, middle)
    return judged(high)
