r"""Lottery tickets: masks found by training, weights of the time before it, and the two controls (section 4.1).

A ticket is a pair: a mask, and the values under it. The hypothesis says that the *pair* matters. So three networks train
alike, each with equally many weights in each layer:

    (1)  ticket        (M, theta_k)             the mask that training found, the values that it began with (k = 0: the first)
    (2)  other start   (M, theta'_0)            the same mask, another draw of the values
    (3)  other mask    (M', theta_k)            the same values, each layer's mask shuffled: equally many weights, by lot

(1) against (2) asks whether the values matter, (1) against (3) whether the places do. The mask comes from rounds:

    (4)  train (M_r, theta_k) to the end;   M_(r+1)  =  the (1 - p_(r+1)) N largest |theta_end|,  all layers together

Weights that are masked end as zeros and therefore go first again, so the masks are nested: M_(r+1) <= M_r. With one round
(4) is one-shot pruning. Large networks need k > 0: values of an *early* step, taken with `snapshot` (Frankle et al. 2020).

Left out: the lottery's stronger form, masks that make an untrained network good (Ramanujan et al. 2020), and structured
tickets. OpenLTH is the authors' own library.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from course_lib._check import check_fraction, check_tensor
from course_lib.pruning.criteria import global_masks, magnitude_score
from course_lib.pruning.masks import current_masks, prunable_weights
from course_lib.pruning.schedules import rewind


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    r"""The network's state as it is now, copied: training on does not reach it.

    $$ \theta_k $$

    where k is the step at which it is taken. (`state_dict()` alone shares memory with the network and follows its training.)

    Raises ValueError for a masked network, whose state has other names and could not be rewound to.
    Source: Frankle & Carbin 2019, section 1, step 1; Frankle et al. 2020 for k > 0.  Notebook: 04_1_pruning_in_practice.
    """
    if masked := list(current_masks(model)):
        raise ValueError(f"snapshot: {', '.join(masked)} are masked; take it before attach_masks, or call make_permanent first")
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def find_ticket(
    model: nn.Module, state: Mapping[str, Tensor], fit: Callable[[nn.Module], object], sparsities: Sequence[float]
) -> dict[str, Bool[Tensor, "..."]]:
    r"""The masks of iterative magnitude pruning with rewinding, eq. (4): one training a round, always from the same values.

    $$ M_0 = 1, \qquad \theta_{\text{end}} = \mathrm{fit}(M_r \odot \theta_k), \qquad
       M_{r+1} = \mathrm{top}\bigl(|\theta_{\text{end}}|,\, p_{r+1}\bigr) $$

    where $\mathrm{top}$ ranks all layers together (`global_masks`).

    model: the architecture; it is not changed.  state: $\theta_k$, from `snapshot`.  fit(network): trains a network in place
    and leaves its masks on.  sparsities: one a round, rising; the last is that of the ticket.
    Raises ValueError for no rounds, sparsities that are no fractions or do not rise, a state that does not fit the model, or a
    fit that takes the masks off.
    Source: Frankle & Carbin 2019, section 2 (strategy 1, with reset).  Notebook: 04_1_pruning_in_practice.
    """
    for p in sparsities:
        check_fraction("find_ticket", "each sparsity", p)
    if len(sparsities) < 1 or any(a >= b for a, b in pairwise(sparsities)):
        raise ValueError(f"find_ticket: sparsities must rise, and there must be one at least; got {list(sparsities)}")
    masks = {name: torch.ones_like(W, dtype=torch.bool) for name, W in prunable_weights(model).items()}
    for p in sparsities:
        network = rewind(model, dict(state), masks)
        fit(network)
        if current_masks(network).keys() != masks.keys():
            raise ValueError("find_ticket: fit took the masks off, so the zeros were trained; let it leave them on")
        masks = global_masks({name: magnitude_score(W) for name, W in prunable_weights(network).items()}, p)
    return masks


def shuffled_masks(
    masks: Mapping[str, Bool[Tensor, "..."]], generator: torch.Generator | None = None
) -> dict[str, Bool[Tensor, "..."]]:
    r"""The control "other mask": in each layer equally many weights stay, at places drawn by lot, eq. (3).

    $$ M'_l = M_l \circ \pi_l, \qquad \pi_l \text{ a random permutation of the places of layer } l $$

    where the sparsity of each layer is that of the ticket: a global random mask would also change *that*, and the comparison
    would be about two things.

    masks: {weight name: boolean}, not changed.  generator: source of the draws (default: torch's global one).
    Raises ValueError for no masks or an empty one, TypeError for a mask that is not boolean.
    Source: Frankle & Carbin 2019, section 2 ("random sparse networks"); Su et al. 2020.  Notebook: 04_1_pruning_in_practice.
    """
    _check_masks("shuffled_masks", masks)
    shuffled = {}
    for name, mask in masks.items():
        places = torch.randperm(mask.numel(), generator=generator).to(mask.device)
        shuffled[name] = mask.flatten()[places].reshape(mask.shape)
    return shuffled


def mask_overlap(masks: Mapping[str, Bool[Tensor, "..."]], others: Mapping[str, Bool[Tensor, "..."]]) -> float:
    r"""Which share of the weights that one set of masks keeps does the other keep too?

    $$ \frac{\sum_l |M_l \cap M'_l|}{\sum_l |M_l|} $$

    where 1 means that every kept weight is kept again. Masks drawn by lot give the share that $M'$ keeps, layer by layer.

    masks, others: {weight name: boolean} of the same names and shapes.  Returns a fraction.
    Raises ValueError for other names or shapes, or masks that keep nothing; TypeError for a mask that is not boolean.
    Source: counting; Frankle et al. 2020 look at stability the same way.  Notebook: 04_1_pruning_in_practice.
    """
    _check_masks("mask_overlap", masks)
    _check_masks("mask_overlap", others)
    if masks.keys() != others.keys():
        raise ValueError(f"mask_overlap: both must name the same weights; got {list(masks)} and {list(others)}")
    for name, mask in masks.items():
        check_tensor("mask_overlap", f"others[{name!r}]", others[name], like=mask)
    n_kept = sum(int(mask.sum()) for mask in masks.values())
    if n_kept == 0:
        raise ValueError("mask_overlap: the first masks keep nothing, so no share of it can be kept again")
    return sum(int((mask & others[name]).sum()) for name, mask in masks.items()) / n_kept


def _check_masks(who: str, masks: Mapping[str, Tensor]) -> None:
    if not masks:
        raise ValueError(f"{who}: there are no masks; give at least one, as {{weight name: mask}}")
    for name, mask in masks.items():
        check_tensor(who, f"the mask {name!r}", mask)
        if mask.dtype != torch.bool:
            raise TypeError(f"{who}: the mask {name!r} must be boolean, True = keep; got {mask.dtype}")
