r"""Several teachers, one student: which distribution to hand over (section 3.3).

An ensemble nearly always errs less than its members, and costs as many times more. Distillation was invented to pay that price
once (Bucila et al. 2006). K teachers give K distributions; two averages suggest themselves, and they are not the same:

    (1)  arithmetic    p  =  sum_k a_k softmax(v_k / T)                   mean of the probabilities
    (2)  geometric     p  =  softmax( sum_k a_k v_k / T )                 mean of the logits
    (3)  (1) minimizes sum_k a_k KL(p_k || p),   (2) minimizes sum_k a_k KL(p || p_k)

with weights a_k that sum to 1. In (1) one teacher alone can keep a class alive; in (2) one teacher alone can veto it. (3) says
that neither is more right: each is the best compromise for one direction of the KL. It follows that a student trained on (1)
gets exactly the average of the gradients it would get from the K teachers one by one.

Left out: weights that depend on the sample (gating), and students that are averaged instead. What production libraries do
differently: nearly all take (2), since logits are what they have at hand.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib._check import check_choice, check_tensor
from course_lib.distillation._door import check_temperature, log_probabilities

MEANS = ("probabilities", "logits")


def ensemble_logits(
    teacher_logits: Float[Tensor, "K B C"],
    T: float | int = 1,
    mean: str = "probabilities",
    weights: Float[Tensor, "K"] | None = None,
) -> Float[Tensor, "B C"]:
    r"""Logits of one imaginary teacher that stands for all $K$, eq. (1) or (2): hand them to `hinton_loss` with the same T.

    $$ v = T \log \sum_k a_k\, \mathrm{softmax}(v_k / T) \quad\text{(probabilities)}, \qquad
       v = \sum_k a_k v_k \quad\text{(logits)} $$

    where $a_k$ are the weights, brought to sum 1. With "probabilities", $\mathrm{softmax}(v/T)$ is the mean of the soft targets
    at this $T$ and at no other; with "logits" $v$ serves every $T$.

    teacher_logits: nats, one matrix a teacher.  weights: >= 0, at least one positive; None = equal.  Returns nats.
    Raises ValueError for another rank, NaN, T <= 0, an unknown mean, or weights that are negative or all zero.
    Source: Hinton et al. 2015, section 2; Bucila et al. 2006.  Notebook: 03_3_knowledge_distillation.
    """
    who = "ensemble_logits"
    check_tensor(who, "teacher_logits", teacher_logits, ndim=3)
    check_temperature(who, T, teacher_logits)
    check_choice(who, "mean", mean, MEANS)
    V = teacher_logits.detach()  # (K, B, C)
    a = _shares(who, weights, V)[:, None, None]
    if mean == "logits":
        return (a * V).sum(dim=0)
    K, B, C = V.shape
    log_p = log_probabilities(V.reshape(K * B, C), T).reshape(K, B, C)
    # A weight of zero has log -inf, which logsumexp takes as "not there".
    return T * torch.logsumexp(a.log() + log_p, dim=0)


def _shares(who: str, weights, V: Tensor) -> Tensor:
    """Weights as fractions that sum to 1, (K)."""
    if weights is None:
        return V.new_full((len(V),), 1 / len(V))
    check_tensor(who, "weights", weights, ndim=1)
    if len(weights) != len(V):
        raise ValueError(f"{who}: {len(weights)} weights for {len(V)} teachers")
    if bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise ValueError(f"{who}: weights must be >= 0 and not all 0, got {weights.tolist()}")
    return (weights / weights.sum()).to(V.dtype)
