"""Pruning, sections 3.1 and 4.1 of the document: which weights may go, in which pattern, when, and how zeros are kept.

- `criteria`   scores (magnitude, random, Taylor, movement) and the masks drawn from them; the document's own rule
- `structure`  N:M blocks, scores for whole channels
- `removal`    a smaller dense network from a larger one
- `masks`      masks that hold while the network trains
- `schedules`  how much is due at which step; rewinding to the lottery ticket
- `sensitivity`  error against sparsity, layer by layer, and the budgets that follow from it
- `lottery`    tickets from rounds of training, and the two controls
- `permutation`  the order of a layer's inputs in which N:M keeps most
"""

from course_lib.pruning.criteria import (
    global_masks,
    magnitude_score,
    mean_threshold_mask,
    movement_score,
    random_score,
    taylor_score,
    top_mask,
)
from course_lib.pruning.lottery import find_ticket, mask_overlap, shuffled_masks, snapshot
from course_lib.pruning.masks import (
    attach_masks,
    current_masks,
    make_permanent,
    prunable_weights,
    update_masks,
    weight_gradients,
)
from course_lib.pruning.permutation import best_permutation, kept_score, n_ways, permuted_n_m_mask, swap_permutation
from course_lib.pruning.removal import remove_channels, zero_channels
from course_lib.pruning.schedules import cubic_sparsity, linear_sparsity, rewind, round_sparsity
from course_lib.pruning.sensitivity import budget_masks, layer_budgets, sensitivity_scan
from course_lib.pruning.structure import batch_norm_scores, channel_scores, n_m_mask

__all__ = [
    "attach_masks",
    "batch_norm_scores",
    "best_permutation",
    "budget_masks",
    "channel_scores",
    "cubic_sparsity",
    "current_masks",
    "find_ticket",
    "global_masks",
    "kept_score",
    "layer_budgets",
    "linear_sparsity",
    "magnitude_score",
    "make_permanent",
    "mask_overlap",
    "mean_threshold_mask",
    "movement_score",
    "n_m_mask",
    "n_ways",
    "permuted_n_m_mask",
    "prunable_weights",
    "random_score",
    "remove_channels",
    "rewind",
    "round_sparsity",
    "sensitivity_scan",
    "shuffled_masks",
    "snapshot",
    "swap_permutation",
    "taylor_score",
    "top_mask",
    "update_masks",
    "weight_gradients",
    "zero_channels",
]
