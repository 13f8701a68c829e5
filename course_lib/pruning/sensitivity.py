r"""Which layer can give more? Error against sparsity, one layer at a time (section 4.1).

A layer of 235,200 weights and one of 1,000 do not suffer alike from losing nine in ten. The scan asks each layer by itself:

    (1)  E_l(p)  =  error of the network in which layer l alone lost its share p of lowest scores
    (2)  G_l(p)  =  lower convex envelope of the scanned points (p, E_l(p))
    (3)  choose p_l to make  sum_l G_l(p_l)  smallest,  so that  sum_l n_l p_l  =  p sum_l n_l
    (4)  price of a stretch of G_l  =  (rise of G_l) / (n_l * length)                      error for each weight that goes

(1) is a measurement. (2) and (3) turn it into a sparsity for each layer, and (4) solves (3) exactly: take the stretches of all
layers, the cheapest first, until enough weights are gone. On a convex curve the price rises, so no stretch is taken before
the one in front of it. In the end all layers stand at one price, not at one error: a small layer saves few weights, so it may
not cost much either.

What the scan cannot see: layers pruned together. (3) adds their errors as if they did not meet, so its sum is no prediction. It
is a budget, made before any fine-tuning, and a short training after it may change the order of the layers.

Left out: scans by Taylor expansion, which need no evaluation a point, and searches over all layers at once (AMC, He et al.
2018). Distiller and NNI have the scan of (1).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from course_lib._check import check_count, check_fraction, check_number
from course_lib.pruning.criteria import magnitude_score, top_mask
from course_lib.pruning.masks import attach_masks, prunable_weights


def _check_sparsities(who: str, sparsities: Sequence[float]) -> None:
    for p in sparsities:
        check_fraction(who, "each sparsity", p)
    if len(sparsities) < 1 or any(a >= b for a, b in pairwise(sparsities)):
        raise ValueError(f"{who}: sparsities must rise, and there must be one at least; got {list(sparsities)}")


def sensitivity_scan(
    model: nn.Module,
    error: Callable[[nn.Module], float],
    sparsities: Sequence[float],
    score: Callable[[Tensor], Tensor] = magnitude_score,
) -> dict[str, dict[float, float]]:
    r"""Prune one layer at a time and measure, eq. (1); every other layer stays dense. The model given is not changed.

    $$ E_l(p) = \mathrm{error}\bigl(\theta \text{ with } W_l \leftarrow M_l(p) \odot W_l\bigr) $$

    where $M_l(p)$ is `top_mask(score(W_l), p)`.

    model: not masked yet.  error(network) -> a number, lower is better: an error rate on held-out samples, or a loss.
    sparsities: rising fractions.  score: weights -> scores of the same shape.  Returns {weight name: {sparsity: error}}.
    Raises ValueError for sparsities that are no fractions or do not rise, a model without Linear or Conv layers, a masked
    one, or an error that is NaN or infinite.
    Source: Han et al. 2015, section 5, figure 6 (left); Li et al. 2017, section 3.2.  Notebook: 04_1_pruning_in_practice.
    """
    _check_sparsities("sensitivity_scan", sparsities)
    weights = prunable_weights(model)
    if not weights:
        raise ValueError("sensitivity_scan: the model has no Linear or Conv weight, so there is nothing to prune")
    scan: dict[str, dict[float, float]] = {}
    for name, W in weights.items():
        scan[name], scores = {}, score(W)
        for p in sparsities:
            pruned = copy.deepcopy(model)
            attach_masks(pruned, {name: top_mask(scores, p)})
            value = error(pruned)
            check_number("sensitivity_scan", f"the error of {name} at sparsity {p:g}", value)
            scan[name][p] = float(value)
    return scan


def _stretches(curve: Mapping[float, float]) -> list[tuple[float, float]]:
    """Eq. (2): the straight stretches of the lower convex envelope, as (length, rise), from sparsity 0 on."""
    corners: list[tuple[float, float]] = []
    for p, error in sorted(curve.items()):
        while len(corners) > 1:
            (p0, e0), (p1, e1) = corners[-2:]
            if (e1 - e0) * (p - p0) < (error - e0) * (p1 - p0):
                break
            corners.pop()  # it lies on or above the line from the corner before it to the new point
        corners.append((p, error))
    return [(p1 - p0, e1 - e0) for (p0, e0), (p1, e1) in pairwise(corners)]


def layer_budgets(scan: Mapping[str, Mapping[float, float]], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    r"""A sparsity for each layer, so that the scanned errors add up to least and the whole loses its share, eq. (2) to (4).

    $$ \min_{p_1, p_2, \ldots} \sum_l G_l(p_l) \quad\text{with}\quad \sum_l n_l\, p_l = p \sum_l n_l $$

    where $n_l$ is the number of weights of layer $l$ and $G_l$ the lower convex envelope of its scan.

    scan: {layer: {sparsity: error}}, each with sparsity 0.  sizes: {layer: number of weights}, the same layers.
    sparsity: fraction of all weights together.  Returns {layer: fraction}; of equal prices the layer named first gives first.
    Raises ValueError for an empty scan, a curve without sparsity 0, sizes of other layers or below 1, errors that are no
    numbers, or a sparsity that is no fraction or exceeds what the scanned points allow.
    Source: the continuous knapsack, Dantzig 1957; equal slopes, Shoham & Gersho 1988, for bits.
    Notebook: 04_1_pruning_in_practice.
    """
    _check_scan(scan, sizes, sparsity)
    budgets, due = dict.fromkeys(scan, 0.0), sparsity * sum(sizes.values())
    stretches = [(rise / (sizes[name] * length), name, length) for name in scan for length, rise in _stretches(scan[name])]
    for _, name, length in sorted(stretches, key=lambda stretch: stretch[0]):  # stable: equal prices stay in their order
        given = min(length, due / sizes[name])
        budgets[name] += given
        due -= given * sizes[name]
        if due <= 0:
            break
    return {name: min(p, max(scan[name])) for name, p in budgets.items()}  # lengths add up to the last point but for rounding


def _check_scan(scan: Mapping, sizes: Mapping, sparsity: float) -> None:
    who = "layer_budgets"
    if not scan or set(scan) != set(sizes):
        raise ValueError(f"{who}: scan and sizes must name the same layers, one at least; got {list(scan)} and {list(sizes)}")
    check_fraction(who, "sparsity", sparsity)
    for name, curve in scan.items():
        check_count(who, f"sizes[{name!r}]", sizes[name])
        if 0 not in curve:
            raise ValueError(f"{who}: the curve of {name!r} needs the error at sparsity 0; got {list(curve)}")
        _check_sparsities(who, sorted(curve))
        for p, value in curve.items():
            check_number(who, f"the error of {name} at sparsity {p:g}", value)
    total, limit = sum(sizes.values()), sum(n * max(scan[name]) for name, n in sizes.items())
    if sparsity * total > limit * (1 + 1e-12):
        raise ValueError(f"{who}: the scan ends at {limit / total:.4f} of all weights; {sparsity} needs further points")


def budget_masks(scores: Mapping[str, Float[Tensor, "..."]], budgets: Mapping[str, float]) -> dict[str, Tensor]:
    r"""A mask for each layer at its own sparsity.

    $$ M_l = \mathrm{top}(S_l, p_l) $$

    where $\mathrm{top}$ is `top_mask`, so $\mathrm{round}(p_l n_l)$ weights of layer $l$ go, exactly.

    scores: {layer: score}.  budgets: {layer: fraction}, the same layers.
    Raises ValueError for other layers, none, or what `top_mask` refuses.
    Source: Han et al. 2015, section 5.  Notebook: 04_1_pruning_in_practice.
    """
    if not scores or set(scores) != set(budgets):
        raise ValueError(f"budget_masks: scores and budgets must name the same layers; got {list(scores)} and {list(budgets)}")
    return {name: top_mask(S, budgets[name]) for name, S in scores.items()}
