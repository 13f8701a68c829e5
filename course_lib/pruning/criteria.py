r"""Which weights may go: scores, thresholds and masks (section 3.1 of the document).

Pruning asks of each weight "would the network miss you?". A *score* answers with a number, low meaning "hardly"; a *mask* draws
the line. Here the two are kept apart, so that any score meets any way of drawing the line:

    (1)  keep_ij  =  |w_ij| >= c * mean_k |w_ik|               the document's rule: a row is judged by its own mean
    (2)  S = |w|                                               magnitude: a small weight moves its unit's output little
    (3)  S = |w g|,  since  L(w -> 0) - L(w) = -w g + O(w^2)    first order Taylor: what the loss itself says, g = dL/dw
    (4)  S_t = S_(t-1) - w g                                   movement: is training carrying the weight away from zero?
    (5)  keep the n - round(p n) highest of n scores           an exact count, in one tensor or over all of them

(1) needs no target, and cannot take one: the share it erases follows from the *shape* of the weights' distribution alone
(erf(1/sqrt(pi)) = 57.5 % for a Gaussian, 1 - 1/e = 63.2 % for a Laplace, 1/2 for a uniform one), whatever its scale. (5) is
what answers "90 %, please". (2) reads a trained network only; (3) and (4) need gradients, which need data.

Left out: scores from curvature (the Hessian), which deserve a file of their own, and scores that look at the activations.

What production libraries do differently: `torch.nn.utils.prune` fuses score, threshold and mask in one object per method and
leaves ties to `topk`; here equal scores go in the order of their positions, so that a mask can be reproduced anywhere.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib._check import check_fraction, check_number, check_tensor


def mean_threshold_mask(W: Float[Tensor, "out *inputs"], c: float = 1.0, per_row: bool = True) -> Bool[Tensor, "out *inputs"]:
    r"""Keep what is at least `c` times as large as the mean magnitude: the document's rule, eq. (1).

    $$ \mathrm{keep}_{ij} = \Bigl[\, |w_{ij}| \ge c \cdot \tfrac1n \sum_{k=1}^{n} |w_{ik}| \,\Bigr] $$

    where $n$ is the number of weights that enter unit $i$ (all of a filter's, for a convolution). With `per_row=False` the mean
    runs over the whole tensor, as in listing 4.1. Equality keeps, because the document erases where $|w|$ is *smaller*.

    W: weights, one row an output unit.  c: dimensionless, >= 0; 1 in the formula, 0.5 in the listing.
    Raises ValueError for an empty tensor, NaN or infinity, a negative `c`, or rows asked of a single dimension.
    Source: the document, section 3.1.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("mean_threshold_mask", "W", W)
    check_number("mean_threshold_mask", "c", c, low=0)
    if per_row and W.ndim < 2:
        raise ValueError(f"mean_threshold_mask: W of shape {tuple(W.shape)} has no rows; per_row needs (out, in, ...)")
    A = W.abs().double().reshape(W.shape[0] if per_row else 1, -1)  # (rows, n)
    # A rounded mean can land above n equal magnitudes, and the row would vanish whole. No true mean exceeds the maximum.
    mean = torch.minimum(A.mean(dim=1, keepdim=True), A.amax(dim=1, keepdim=True))  # (rows, 1)
    return A.ge(c * mean).reshape(W.shape)


def magnitude_score(W: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Score a weight by its absolute value, eq. (2).

    $$ S_{ij} = |w_{ij}| $$

    where the score has the unit of the weights. For the layer alone this is optimal: of all ways to erase a given number of
    weights, erasing the smallest changes $W$ least in the Euclidean norm.

    W: weights of any shape.  Returns scores >= 0 of the same shape.
    Raises ValueError for an empty tensor, NaN or infinity.
    Source: Han et al. 2015, "Learning both Weights and Connections".  Notebook: 03_1_weight_pruning.
    """
    check_tensor("magnitude_score", "W", W)
    return W.abs()


def random_score(W: Float[Tensor, "*shape"], generator: torch.Generator | None = None) -> Float[Tensor, "*shape"]:
    r"""Score by lot: the control without which no other score can be said to know anything.

    $$ S_{ij} \sim \mathcal U[0, 1) $$

    where the draws are independent of the weights; only the shape, type and device of `W` are used.

    W: weights of any shape.  generator: source of the draws (default: torch's global one).
    Raises ValueError for an empty tensor, NaN or infinity.
    Source: the usual control, e.g. Blalock et al. 2020, section 7.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("random_score", "W", W)
    return torch.rand(W.shape, generator=generator, dtype=W.dtype, device=W.device)


def taylor_score(W: Float[Tensor, "*shape"], G: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Score by the change of the loss when the weight goes, to first order, eq. (3).

    $$ S_{ij} = |w_{ij}\, g_{ij}| \approx |L(w_{ij} \to 0) - L|, \qquad g_{ij} = \partial L / \partial w_{ij} $$

    where $g$ is averaged over the samples that the loss was averaged over. The unit is that of the loss (nats). Molchanov et
    al. 2019 use the square, which ranks the same. At a perfect minimum $g = 0$ and the score is blind.

    W: weights.  G: gradient of the loss, same shape.
    Raises ValueError for empty, NaN or infinite tensors, or unequal shapes.
    Source: Molchanov et al. 2017, eq. (7), for feature maps; 2019, eq. (8), for weights.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("taylor_score", "W", W)
    check_tensor("taylor_score", "G", G, like=W)
    return (W * G).abs()


def movement_score(
    W: Float[Tensor, "*shape"], G: Float[Tensor, "*shape"], previous: Float[Tensor, "*shape"] | None = None
) -> Float[Tensor, "*shape"]:
    r"""Add one step to the movement score, eq. (4); call it once a step of fine-tuning.

    $$ S_{ij}^{(t)} = S_{ij}^{(t-1)} - w_{ij}^{(t)}\, g_{ij}^{(t)}, \qquad S_{ij}^{(0)} = 0 $$

    where gradient descent moves $w$ by $-\eta g$: the term is positive when $|w|$ grows and negative when it shrinks. Weights
    that leave zero score high however small they still are. The paper multiplies by the learning rate, which ranks the same
    while that rate is constant.

    W: weights before the step.  G: gradient at that step.  previous: score so far, None at the first step (it is not changed).
    Raises ValueError for empty, NaN or infinite tensors, or unequal shapes.
    Source: Sanh et al. 2020, "Movement Pruning", section 4.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("movement_score", "W", W)
    check_tensor("movement_score", "G", G, like=W)
    if previous is None:
        return -W * G
    check_tensor("movement_score", "previous", previous, like=W)
    return previous - W * G


def top_mask(score: Float[Tensor, "*shape"], sparsity: float) -> Bool[Tensor, "*shape"]:
    r"""Keep the highest scores of one tensor, so that an exact share goes, eq. (5).

    $$ \mathrm{keep}_i = [\, \mathrm{rank}(S_i) \ge \mathrm{round}(p\, n) \,], \qquad \mathrm{rank} \in \{0, \dots, n-1\} $$

    where $\mathrm{rank}$ counts from the lowest score, $n$ is the number of scores, $p$ the sparsity. Among equal scores the
    earlier position goes first. A threshold "at the quantile" would take all equals or none, and miss the count.

    score: any shape; low goes first.  sparsity: fraction in [0, 1] to erase; round() is Python's (a half goes to even).
    Raises ValueError for empty, NaN or infinite scores, or a sparsity outside [0, 1].
    Source: Han et al. 2015; the exact count as in torch.nn.utils.prune.  Notebook: 03_1_weight_pruning.
    """
    check_tensor("top_mask", "score", score)
    check_fraction("top_mask", "sparsity", sparsity)
    n_gone = round(sparsity * score.numel())
    order = score.flatten().argsort(stable=True)  # topk would be faster, but may choose any of the equals
    mask = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    mask[order[:n_gone]] = False
    return mask.reshape(score.shape)


def global_masks(scores: dict[str, Float[Tensor, "..."]], sparsity: float) -> dict[str, Bool[Tensor, "..."]]:
    r"""Keep the highest scores of all tensors together: one threshold for the network, eq. (5) over the union.

    $$ \mathrm{keep}_{l,i} = [\, S_{l,i} \ge \tau \,], \qquad \#\{S_{l,i} < \tau\} = \mathrm{round}\bigl(p \sum_l n_l\bigr) $$

    where $l$ runs over the layers. The layers then get unequal sparsities, which the scores decide, not the user; a layer of
    small weights can lose everything, and the network with it, so look at the shares.

    scores: layer name -> scores; ties go in the order of the dict, then of the positions.  sparsity: fraction of the total.
    Raises ValueError for no scores at all, empty, NaN or infinite ones, or a sparsity outside [0, 1]; TypeError for no dict.
    Source: Frankle & Carbin 2019, section 4 ("globally"); Blalock et al. 2020.  Notebook: 03_1_weight_pruning.
    """
    if not isinstance(scores, dict):
        raise TypeError(f"global_masks: scores must be a dict {{layer name: score}}, got {type(scores).__name__}")
    if not scores:
        raise ValueError("global_masks: scores is empty; give at least one layer, as {name: score}")
    for name, score in scores.items():
        check_tensor("global_masks", f"scores[{name!r}]", score)
    check_fraction("global_masks", "sparsity", sparsity)
    mask = top_mask(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = mask.split([score.numel() for score in scores.values()])
    return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts)}
