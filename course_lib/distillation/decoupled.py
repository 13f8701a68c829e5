r"""Hinton's loss taken apart: how sure, and which of the others (section 3.3).

The teacher says two things in one distribution: how much it believes the labelled class t, and how it shares the rest among
the other classes. Zhao et al. split the KL divergence accordingly. With p_t = softmax(v/T) at the labelled class, and p^ the
distribution over the other C - 1 classes once the labelled one is struck out (both for teacher and student):

    (1)  TCKD  =  KL( [p_t, 1 - p_t]  ||  [q_t, 1 - q_t] )                two classes: the labelled one, the rest
    (2)  NCKD  =  KL( p^  ||  q^ )                                        the rest among themselves
    (3)  KL    =  TCKD  +  (1 - p_t) NCKD                                 an identity (p: teacher, q: student)
    (4)  L_DKD =  T^2 ( target_weight TCKD  +  rest_weight NCKD )

(3) shows what Hinton's loss does quietly: the surer the teacher, the smaller the weight 1 - p_t of the part that tells which
wrong classes resemble the right one. On digits 1 - p_t is often below 0.001 at T = 1. (4) sets the two weights by hand.

Left out: nothing of the loss; the paper also warms its weight up over the first epochs. What production libraries do
differently: the authors' code strikes the labelled class out by subtracting 1000 from its logit; here it is left out.
"""

from jaxtyping import Float, Int
from torch import Tensor

from course_lib._check import check_number
from course_lib.distillation._door import (
    check_labels,
    check_logits,
    check_squared_temperature,
    check_temperature,
    log_probabilities,
    reduce,
)


def decoupled_parts(
    student_logits: Float[Tensor, "B C"],
    teacher_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    T: float | int = 1,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    r"""TCKD, NCKD and the weight $1 - p_t$ that Hinton's loss gives to NCKD, one value a row, eq. (1) to (3).

    $$ \mathrm{KL}(p \,\|\, q) = \mathrm{TCKD} + (1 - p_t)\, \mathrm{NCKD} $$

    where $p$, $q$ are the soft targets of teacher and student at temperature $T$ and $p_t$ the teacher's share for the label.
    With two classes nothing is left to compare among "the rest" and NCKD is 0. The teacher gets no gradient.

    Returns (tckd, nckd, rest_share): nats, nats, fraction; without the factor $T^2$.
    Raises ValueError for T <= 0, shapes that differ, labels out of range, NaN, or fewer than two classes.
    Source: Zhao et al. 2022, section 3.1.  Notebook: 03_3_knowledge_distillation.
    """
    who = "decoupled_parts"
    check_logits(who, "student_logits", student_logits)
    check_logits(who, "teacher_logits", teacher_logits, like=student_logits)
    check_labels(who, "labels", labels, student_logits)
    check_temperature(who, T, student_logits, teacher_logits)
    if student_logits.shape[1] < 2:
        raise ValueError(f"{who}: one class has no others to be told apart from; C must be >= 2")
    log_p_target, log_p_rest, log_p_others = _split(teacher_logits.detach(), labels, T)
    log_q_target, log_q_rest, log_q_others = _split(student_logits, labels, T)
    rest_share = log_p_rest.exp()
    tckd = log_p_target.exp() * (log_p_target - log_q_target) + rest_share * (log_p_rest - log_q_rest)
    nckd = (log_p_others.exp() * (log_p_others - log_q_others)).sum(dim=1)
    return tckd, nckd, rest_share


def decoupled_loss(
    student_logits: Float[Tensor, "B C"],
    teacher_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    T: float | int = 1,
    target_weight: float | int = 1.0,
    rest_weight: float | int = 8.0,
    reduction: str = "batchmean",
) -> Float[Tensor, "*rows"]:
    r"""Decoupled knowledge distillation, eq. (4), with $T^2$ in the open. Add your own label loss to it.

    $$ L = T^2 \bigl( \texttt{target\_weight} \cdot \mathrm{TCKD} + \texttt{rest\_weight} \cdot \mathrm{NCKD} \bigr) $$

    where the two parts are those of `decoupled_parts` (the paper calls the weights alpha and beta; alpha is a fraction here).

    target_weight, rest_weight: dimensionless, >= 0.  reduction: "batchmean", "sum" or "none".  Returns nats (a sample).
    Raises ValueError as `decoupled_parts`, and for negative weights or an unknown reduction.
    Source: Zhao et al. 2022, section 3.3.  Notebook: 03_3_knowledge_distillation.
    """
    who = "decoupled_loss"
    check_number(who, "target_weight", target_weight, low=0.0)
    check_number(who, "rest_weight", rest_weight, low=0.0)
    tckd, nckd, _ = decoupled_parts(student_logits, teacher_logits, labels, T)
    check_squared_temperature(who, T, student_logits, teacher_logits)
    return reduce(who, T**2 * (target_weight * tckd + rest_weight * nckd), reduction)


def _split(logits: Tensor, labels: Tensor, T: float) -> tuple[Tensor, Tensor, Tensor]:
    """log of: the label's share (B), the share of all others together (B), their distribution among themselves (B, C-1)."""
    B, C = logits.shape
    is_label = labels[:, None] == labels.new_tensor(range(C))  # (B, C)
    log_p = log_probabilities(logits, T)
    others = logits[~is_label].reshape(B, C - 1)
    # log(1 - p_t) as a sum over the others: 1 - p_t itself is 0 in floats as soon as p_t rounds to 1.
    log_rest = log_p[~is_label].reshape(B, C - 1).logsumexp(dim=1)
    return log_p[is_label], log_rest, log_probabilities(others, T)
