r"""Zeros that a machine can use: N:M blocks and whole channels (section 3.1).

A zero at any place saves storage, but a multiplication by it is still done: dense kernels do not look. Two patterns do save
time. In *N:M sparsity* each block of m consecutive inputs keeps n weights, so the work of a block is known beforehand and the
hardware needs only log2(C(m, n)) bits (in practice n * ceil(log2 m)) to say where they sit. In *channel pruning* all weights
of an output unit go together, and what is left is an ordinary dense layer, only smaller (`removal.py` builds it).

    (1)  N:M     in each block of m along the input axis, keep the n highest scores          sparsity 1 - n/m exactly
    (2)  S_i  =  sum_k |w_ik|   or   sqrt(sum_k w_ik^2)                                      channel score, L1 or L2
    (3)  S_i  =  |gamma_i|                                                                   the batch norm's own scale

(1) is optimal block by block: no N:M mask keeps a larger total score. It is never better than (5) of `criteria.py` at the
same sparsity, since every N:M mask is also an unstructured one; that gap is the price of the pattern.

`permutation.py` has the order of input channels that wins some of the price back (Pool & Yu 2021). Left out: the kernels, which
need a GPU of NVIDIA's Ampere generation or later (2:4, `torch.sparse.to_sparse_semi_structured`).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib._check import check_choice, check_count, check_tensor


def n_m_mask(score: Float[Tensor, "out in *window"], n: int, m: int) -> Bool[Tensor, "out in *window"]:
    r"""Keep the `n` highest scores in each block of `m` consecutive inputs, eq. (1).

    $$ \mathrm{keep}_{i,\,bm+j} = [\, \mathrm{rank}(S_{i,\,bm+j}) \ge m - n \,], \qquad \mathrm{rank} \in \{0, \dots, m-1\} $$

    where $b$ numbers the blocks of row $i$, $j = 0, \dots, m-1$, and the rank counts from the block's lowest score. For a
    convolution the blocks run along the input channels, at each place of the window by itself, since that is the axis a matrix
    unit sums over. Among equal scores the earlier position goes first.

    score: (out, in) or (out, in, kh, kw); `in` must be a multiple of `m`.  n, m: whole numbers, 1 <= n <= m.
    Raises ValueError for empty, NaN or infinite scores, fewer than two dimensions, n > m, or a remainder.
    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"; Zhou et al. 2021.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("n_m_mask", "score", score)
    check_count("n_m_mask", "m", m)
    check_count("n_m_mask", "n", n)
    if score.ndim < 2:
        raise ValueError(f"n_m_mask: score needs an input dimension, (out, in, ...), got shape {tuple(score.shape)}")
    if n > m:
        raise ValueError(f"n_m_mask: n of every m weights stay, so n <= m; got n = {n}, m = {m}")
    if score.shape[1] % m:
        raise ValueError(f"n_m_mask: {score.shape[1]} inputs do not divide into blocks of {m}")
    blocks = score.movedim(1, -1).unflatten(-1, (-1, m))  # (out, *window, in / m, m)
    order = blocks.argsort(dim=-1, stable=True)
    mask = torch.ones_like(blocks, dtype=torch.bool).scatter(-1, order[..., : m - n], False)
    return mask.flatten(-2).movedim(-1, 1)


def channel_scores(W: Float[Tensor, "out *inputs"], norm: str = "l2") -> Float[Tensor, "out"]:
    r"""Score each output unit by the norm of all weights that enter it, eq. (2).

    $$ S_i = \sum_k |w_{ik}| \ \ (\text{l1}), \qquad S_i = \sqrt{\textstyle\sum_k w_{ik}^2} \ \ (\text{l2}) $$

    where $k$ runs over the inputs, and over the window of a convolution. All rows of a layer have equally many weights, so sum
    and mean rank the same; across layers they do not.

    W: (out, in) of a Linear or (out, in, kh, kw) of a Conv2d.  Returns (out) scores >= 0 in the unit of the weights.
    Raises ValueError for an empty tensor, NaN or infinity, or an unknown norm.
    Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1 (L1).  Notebook: 03_1_weight_pruning.
    """
    check_tensor("channel_scores", "W", W)
    check_choice("channel_scores", "norm", norm, ("l1", "l2"))
    rows = W.reshape(W.shape[0], -1)  # (out, n)
    return rows.abs().sum(dim=1) if norm == "l1" else rows.norm(dim=1)


def batch_norm_scores(gamma: Float[Tensor, "channels"]) -> Float[Tensor, "channels"]:
    r"""Score each channel by the scale that its batch norm gives it, eq. (3).

    $$ S_i = |\gamma_i|, \qquad \mathrm{BN}(x)_i = \gamma_i \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} + \beta_i $$

    where the fraction has variance 1 in every channel, so that $\gamma$ alone says how strongly the channel speaks; the norm of
    the weights before it says nothing, since the division by $\sigma_i$ undoes any scale. Network slimming adds
    $\lambda \sum_i |\gamma_i|$ to the training loss, which drives whole channels to zero.

    gamma: `weight` of a BatchNorm layer.  Returns scores >= 0, dimensionless.
    Raises ValueError for an empty tensor, NaN or infinity, or more than one dimension.
    Source: Liu et al. 2017, "Learning Efficient ConvNets through Network Slimming".  Notebook: 03_1_weight_pruning.
    """
    check_tensor("batch_norm_scores", "gamma", gamma, ndim=1)
    return gamma.abs()
