"""Knowledge distillation, section 3.3: a small network learns from what a large one says, not from labels alone.

    losses.py     the document's objective, hard and soft targets, Hinton's loss and its gradient, label smoothing
    decoupled.py  Hinton's loss split into "how sure" and "which of the others"
    ensemble.py   several teachers: mean of probabilities, mean of logits
    features.py   hidden layers: FitNets hints, attention maps, input sensitivity
    relations.py  the geometry of a batch: distances and angles
    _door.py      what every loss here asks of its input

A loss is a function of tensors. It takes the student's side first, gives the teacher no gradient, and names its reduction.
"""

from course_lib.distillation.decoupled import decoupled_loss, decoupled_parts
from course_lib.distillation.ensemble import ensemble_logits
from course_lib.distillation.features import (
    attention_loss,
    attention_map,
    hint_loss,
    hint_projection,
    input_sensitivity,
    sensitivity_loss,
)
from course_lib.distillation.losses import (
    document_loss,
    hard_predictions,
    hinton_loss,
    label_smoothing_loss,
    logit_matching_gradient,
    soft_loss,
    soft_loss_gradient,
    soft_targets,
)
from course_lib.distillation.relations import angle_loss, distance_loss, pair_distances, triple_angles

__all__ = [
    "angle_loss",
    "attention_loss",
    "attention_map",
    "decoupled_loss",
    "decoupled_parts",
    "distance_loss",
    "document_loss",
    "ensemble_logits",
    "hard_predictions",
    "hint_loss",
    "hint_projection",
    "hinton_loss",
    "input_sensitivity",
    "label_smoothing_loss",
    "logit_matching_gradient",
    "pair_distances",
    "sensitivity_loss",
    "soft_loss",
    "soft_loss_gradient",
    "soft_targets",
    "triple_angles",
]
