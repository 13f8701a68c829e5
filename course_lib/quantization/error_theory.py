r"""How large the rounding error is, before anything is measured (section 3.2).

Rounding to a grid of step s leaves an error e = w_hat - w in [-s/2, s/2]. Where the density of w is smooth over one step, e is
spread evenly over that interval, and almost everything about quantization follows from its variance:

    (1)  E e^2   =  (1/s) * integral from -s/2 to s/2 of e^2 de  =  s^2 / 12
    (2)  SNR     =  10 log10( E w^2 / E (w - w_hat)^2 )               in decibel
    (3)  one more bit  ->  s halves  ->  E e^2 falls to a quarter  ->  SNR grows by 20 log10(2) = 6.02 dB
    (4)  SNR(b)  =  20 log10(2) b + 10 log10(3) - 20 log10(peak / rms)      for a grid of 2^b steps from -peak to peak

(4) is (2) with s = 2 peak / 2^b put into (1). Its last term is why outliers cost bits: one weight ten times as large as the
next costs 20 dB, more than three bits, for all of them. (1) fails at very few bits (the density is not flat over a step, and
the error becomes correlated with the signal) and where values saturate; the chapter measures from where on it holds.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib._check import check_count, check_number, check_tensor

DB_PER_BIT = 20 * math.log10(2)  # 6.0206


def uniform_noise_variance(s: Float[Tensor, "*shape"] | float) -> Float[Tensor, "*shape"] | float:
    r"""Mean squared rounding error of a grid of step `s`, equation (1) of this module.

    $$ \mathbb{E}\,e^2 = \frac1s \int_{-s/2}^{s/2} e^2\, de = \frac{s^2}{12} $$

    where $e = \hat w - w$ is assumed uniform within half a step.

    s: step, one or many, in the unit of the data.  Returns the variance in its square.
    Raises ValueError for a step that is not finite and > 0.
    Source: Bennett 1948, section on quantization noise; Widrow and Kollar 2008, ch. 1.  Notebook: 03_2_quantization.
    """
    if isinstance(s, Tensor):
        check_tensor("uniform_noise_variance", "s", s)
        check_number("uniform_noise_variance", "s", float(s.min()), above=0)
    else:
        check_number("uniform_noise_variance", "s", s, above=0)
    return s**2 / 12


def signal_to_noise_db(W: Float[Tensor, "*shape"], W_hat: Float[Tensor, "*shape"]) -> float:
    r"""How far the signal stands above the error, in decibel, equation (2) of this module.

    $$ \mathrm{SNR} = 10 \log_{10} \frac{\sum_i w_i^2}{\sum_i (w_i - \hat w_i)^2} $$

    where the sums run over all values. 20 dB: the error has a tenth of the signal's rms. Without any error it is infinite (also
    for an all-zero W); an all-zero W with an error gives minus infinity.

    W, W_hat: values and their reconstruction, of one shape.  Returns decibel.
    Raises ValueError for empty, NaN or infinite tensors or two different shapes.
    Source: Jayant and Noll 1984, ch. 4.  Notebook: 03_2_quantization.
    """
    check_tensor("signal_to_noise_db", "W", W)
    check_tensor("signal_to_noise_db", "W_hat", W_hat, like=W)
    signal = float(W.double().square().sum())
    noise = float((W.double() - W_hat.double()).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def predicted_snr_db(n_bits: int, peak_to_rms: float) -> float:
    r"""Signal-to-noise ratio of a uniform grid of $2^b$ steps that just holds the data, equation (4) of this module.

    $$ \mathrm{SNR}(b) = 20 \log_{10}(2)\, b + 10 \log_{10} 3 - 20 \log_{10} \frac{\mathrm{peak}}{\mathrm{rms}} $$

    where peak is the largest magnitude and rms the root of the mean square: $\sqrt3$ for uniform data (the last two terms then
    cancel), 1 for a square wave, 4 to 6 for a layer of weights, 10 to 1000 for activations with outliers.

    n_bits: bits a value, >= 1.  peak_to_rms: >= 1, dimensionless.  Returns decibel.
    Raises ValueError for other values.
    Source: Bennett 1948; Jayant and Noll 1984, eq. (4.35).  Notebook: 03_2_quantization.
    """
    check_count("predicted_snr_db", "n_bits", n_bits)
    check_number("predicted_snr_db", "peak_to_rms", peak_to_rms, low=1)
    return DB_PER_BIT * n_bits + 10 * math.log10(3) - 20 * math.log10(peak_to_rms)


def peak_to_rms(W: Float[Tensor, "*shape"]) -> float:
    r"""Largest magnitude over root mean square: what the worst value costs all the others.

    $$ \frac{\max_i |w_i|}{\sqrt{\frac1n \sum_i w_i^2}} $$

    where $n$ is the number of values. 1 for a constant; 1 also for an all-zero tensor, which costs nothing.

    W: values of any shape.  Returns a number >= 1, dimensionless.
    Raises ValueError for an empty, NaN or infinite tensor.
    Source: Jayant and Noll 1984, ch. 4 (loading factor).  Notebook: 03_2_quantization.
    """
    check_tensor("peak_to_rms", "W", W)
    peak = float(W.abs().max())
    # Divided by the peak first: squares of very small or very large float32 values would under- or overflow.
    return 1.0 if peak == 0 else max(1.0, 1 / math.sqrt(float(torch.mean((W.double() / peak) ** 2))))
