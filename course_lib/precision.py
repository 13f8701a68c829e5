r"""Training in 16 bits: which gradients vanish, and how a factor on the loss brings them back (section 2).

A floating-point format with E exponent bits and F fraction bits cannot hold every number:

    (1)  smallest positive number  =  2^(2 - 2^(E-1) - F)        float16 (5, 10): 2^-24;   bfloat16 (8, 7): 2^-133
    (2)  a number rounds to 0      iff  |g| <= smallest / 2      (a tie goes to the even neighbour, which is 0)
    (3)  largest number            =  (2 - 2^-F) 2^(2^(E-1)-1)   float16: 65504;           bfloat16: 3.4e38
    (4)  G(S loss)  =  S G(loss)                                 backward is linear in the loss: scale, walk back, divide by S

Gradients live near the lower end, weights do not. Late in training many gradients lie below 2^-25 and are 0 in float16: those
weights stop learning. (4) moves all of them up by S before they are rounded; S too large sends the largest over (3). So S is
searched while training: halved after an overflow (that step is skipped), doubled after a long quiet stretch. bfloat16 has
float32's exponent and needs none of this; it pays with a fraction of 7 bits, which is why sums and weights stay in float32.

Mixed precision = products in 16 bits, everything that accumulates in 32: weights, optimizer state, losses.

Left out: float8 (scales per tensor, Micikevicius et al. 2022). On a GPU with 16-bit units this is several times faster; on a
CPU it may be slower, since many lack the instructions: measure. Production: `torch.autocast` (used here) and
`torch.amp.GradScaler`, which does (4) on the accelerator without asking it back each step.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib._check import check_choice, check_count, check_number, check_tensor

FORMATS = {torch.float16: (5, 10), torch.bfloat16: (8, 7), torch.float32: (8, 23), torch.float64: (11, 52)}  # E, F


def smallest_positive(dtype: torch.dtype) -> float:
    r"""The smallest number above 0 that `dtype` holds, eq. (1): below it there is only 0.

    $$ 2^{\,2 - 2^{E-1} - F} $$

    where E and F are the numbers of exponent and fraction bits. This is a subnormal number: the exponent is at its end and the
    fraction has lost its leading 1, so it has one significant bit.

    Raises ValueError for a dtype that is no floating-point format of this course.
    Source: IEEE 754-2019, section 3.4.  Notebook: 02_2_training.
    """
    check_choice("smallest_positive", "dtype", str(dtype), map(str, FORMATS))
    E, F = FORMATS[dtype]
    return 2.0 ** (2 - 2 ** (E - 1) - F)


def underflow_share(G: Float[Tensor, "*shape"], dtype: torch.dtype = torch.float16, scale: float = 1.0) -> float:
    r"""The share of the non-zero numbers of G that become 0 in `dtype` after multiplication by `scale`, a fraction, eq. (2).

    $$ \frac{\#\{ i : 0 < S\,|g_i| \le \tfrac12\, 2^{\,2 - 2^{E-1} - F} \}}{\#\{ i : g_i \ne 0 \}} $$

    A prediction from the format alone: nothing is cast. A tensor of zeros has nothing to lose: 0.

    Raises ValueError for NaN, an empty tensor, an unknown dtype, scale <= 0.
    Source: Micikevicius et al. 2018 (ICLR), section 3.2 and figure 3.  Notebook: 02_2_training.
    """
    check_tensor("underflow_share", "G", G)
    check_number("underflow_share", "scale", scale, above=0.0)
    A = G.detach().double().abs() * scale
    n, half = int(torch.count_nonzero(G)), smallest_positive(dtype) / 2
    return int(((A > 0) & (half >= A)).sum()) / n if n else 0.0


class LossScaler:
    r"""Dynamic loss scaling, eq. (4): `scaled(loss).backward()`, then `unscale(parameters)`, then step if it says True.

    $$ G = \frac1S \nabla (S L), \qquad S \leftarrow S/2 \text{ after an overflow}, \quad
       S \leftarrow 2S \text{ after } n \text{ good steps in a row} $$

    scale: S to begin with, a power of two, so that scaling rounds nothing.  n_good: n, `growth_interval` in torch.

    Raises ValueError for scale <= 0 or n_good < 1.
    Source: Micikevicius et al. 2018 (ICLR), section 3.2; the growth rule is torch.amp.GradScaler's.  Notebook: 02_2_training.
    """

    def __init__(self, scale: float = 2.0**16, n_good: int = 2000):
        check_number("LossScaler", "scale", scale, above=0.0)
        check_count("LossScaler", "n_good", n_good)
        self.scale, self.n_good = float(scale), n_good
        self._good = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """S times the loss: what to call backward() on."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, parameters: Iterable[Tensor]) -> bool:
        """Divide the gradients by S, in place, and adapt S. False: an overflow; skip this step, the gradients are useless."""
        gradients = [W.grad for W in parameters if W.grad is not None]
        for G in gradients:
            G.div_(self.scale)
        if not all(bool(G.isfinite().all()) for G in gradients):
            self.scale, self._good = self.scale / 2, 0
            return False
        self._good += 1
        if self._good == self.n_good:
            self.scale, self._good = self.scale * 2, 0
        return True


def autocast_forward(model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> Callable[[Tensor], Tensor]:
    r"""A `forward` for `train` that computes matrix products in `dtype` and gives float32 outputs; the weights stay float32.

    $$ H = \mathrm{round}_{16}(X)\, \mathrm{round}_{16}(W)^{\top} $$

    with the sum inside the product kept in float32 by the kernel. Use bfloat16 as it is; float16 asks for a `LossScaler`.

    Raises ValueError for a dtype other than float16 or bfloat16.
    Source: Micikevicius et al. 2018 (ICLR), sections 3.1 and 3.3; torch.autocast.  Notebook: 02_2_training.
    """
    check_choice("autocast_forward", "dtype", str(dtype), ("torch.float16", "torch.bfloat16"))

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=dtype):
            return model(x).float()

    return forward
