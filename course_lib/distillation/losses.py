r"""From one objective without a teacher to Hinton's loss (section 3.3).

The document's formula for knowledge distillation is min_f E[L(f(x), y)], eq. (1). There is no teacher in it: everything hangs
on what is put in for y. With y = the labels it is ordinary training; with y = the class that the teacher predicts it is *hard*
distillation, eq. (2). Neither tells the student how sure the teacher was, or which wrong class it nearly chose. Hinton's loss
(5) hands over the whole distribution, softened by a temperature T, eq. (3). u are the student's logits, v the teacher's.

    (1)  L_doc       =  mean_b  -log softmax(u_b)[y_b]
    (2)  y_b         =  argmax_c v_bc
    (3)  p_t, p_s    =  softmax(v / T),  softmax(u / T)
    (4)  KL(p_t||p_s) = sum_c p_t (log p_t - log p_s)         "forward";  with p_t and p_s exchanged: "reverse"
    (5)  L           =  (1 - alpha) L_labels  +  alpha T^2 KL
    (6)  dKL/du      =  (p_s - p_t) / T                                      forward
                     =  p_s (log p_s - log p_t - KL(p_s||p_t)) / T           reverse
    (7)  T^2 dKL/du  -> (u - v) / C    for T -> infinity and logits of mean zero

Where T^2 comes from: (6) holds one factor 1/T in the open and a second one hidden in p_s - p_t, since a flatter softmax makes
both distributions equal to 1/C up to (u - v)/(C T). So the soft part fades as 1/T^2 beside the label part, and alpha would mean
something else at each temperature. T^2 takes that back; (7) is what stays. The label part always uses T = 1.

Three faults are common enough to have a test each. The loss is summed over the classes and averaged over the *batch*: averaging
over classes as well (the default of `torch.nn.functional.kl_div`) makes it C times smaller. That function wants log p_s first
and p_t second. And the teacher is a constant: `hinton_loss` detaches it.

Left out: a temperature of its own for the student, and per-sample weights. What production libraries do differently: most
write (5) with `F.kl_div(log_p_s, p_t, reduction="batchmean") * T**2`, and several put alpha before the *label* part.
"""

from jaxtyping import Float, Int
from torch import Tensor

from course_lib._check import check_choice, check_fraction
from course_lib.distillation._door import (
    check_labels,
    check_logits,
    check_squared_temperature,
    check_temperature,
    log_probabilities,
    reduce,
)

DIRECTIONS = ("forward", "reverse")


def hard_predictions(teacher_logits: Float[Tensor, "B C"]) -> Int[Tensor, "B"]:
    r"""The class that the teacher finds most likely, eq. (2): the document's step 1.

    $$ y_b = \arg\max_c v_{bc} $$

    where $v$ are the teacher's logits. A tie goes to one of the largest, as `torch.argmax` chooses.

    teacher_logits: nats, one row a sample.  Returns class numbers.
    Raises ValueError for an empty matrix, NaN, or another rank; TypeError for what is no tensor.
    Source: the document, section 3.3, step 1.  Notebook: 03_3_knowledge_distillation.
    """
    check_logits("hard_predictions", "teacher_logits", teacher_logits)
    return teacher_logits.detach().argmax(dim=1)


def document_loss(student_logits: Float[Tensor, "B C"], y: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    r"""The document's objective, eq. (1), with cross-entropy for $L$ and the mean over the batch for $\mathbb{E}$.

    $$ L = \frac1B \sum_b -\log \mathrm{softmax}(u_b)_{y_b} $$

    where $u$ are the student's logits. The formula does not say what $y$ is: labels make it ordinary training,
    `hard_predictions(teacher_logits)` hard distillation.

    student_logits: nats.  y: class numbers.  Returns nats a sample.
    Raises ValueError for NaN, no rows, or a class that does not exist.
    Source: the document, section 3.3.  Notebook: 03_3_knowledge_distillation.
    """
    check_logits("document_loss", "student_logits", student_logits)
    check_labels("document_loss", "y", y, student_logits)
    return _cross_entropy(student_logits, y).mean()


def soft_targets(logits: Float[Tensor, "B C"], T: float | int = 1) -> Float[Tensor, "B C"]:
    r"""The distribution over classes at temperature $T$, eq. (3).

    $$ p^T_{bc} = \frac{e^{v_{bc}/T}}{\sum_k e^{v_{bk}/T}} $$

    where $T = 1$ is the network as trained, $T \to 0$ puts everything on the largest logit, $T \to \infty$ gives $1/C$ to each
    class. The order of the classes is the same at every $T$.

    logits: nats.  T: dimensionless, > 0.  Returns fractions, each row sums to 1.
    Raises ValueError for T <= 0, NaN, an empty matrix, or logits that overflow when divided by T.
    Source: Hinton et al. 2015, eq. (1).  Notebook: 03_3_knowledge_distillation.
    """
    check_logits("soft_targets", "logits", logits)
    check_temperature("soft_targets", T, logits)
    return log_probabilities(logits, T).exp()


def soft_loss(
    student_logits: Float[Tensor, "B C"],
    teacher_logits: Float[Tensor, "B C"],
    T: float | int,
    direction: str = "forward",
    reduction: str = "batchmean",
) -> Float[Tensor, "*rows"]:
    r"""How far the student's distribution is from the teacher's at temperature $T$, eq. (4), without the factor $T^2$.

    $$ \mathrm{KL}(p^T_t \,\|\, p^T_s) = \sum_c p^T_{t,c} \bigl( \log p^T_{t,c} - \log p^T_{s,c} \bigr) $$

    where $p_t, p_s$ are the soft targets of teacher and student. "forward" punishes the student for giving little where the
    teacher gives much (it covers every mode); "reverse" for giving much where the teacher gives little (it picks one).
    The teacher gets no gradient.

    reduction: "batchmean" divides the sum by B (not by B times C), "sum", or "none" for one value a row.  Returns nats.
    Raises ValueError for T <= 0, shapes that differ, NaN, an unknown direction or reduction.
    Source: Hinton et al. 2015, section 2; the reverse form: Gu et al. 2024 (MiniLLM), section 2.1.
    Notebook: 03_3_knowledge_distillation.
    """
    who = "soft_loss"
    check_logits(who, "student_logits", student_logits)
    check_logits(who, "teacher_logits", teacher_logits, like=student_logits)
    check_temperature(who, T, student_logits, teacher_logits)
    check_choice(who, "direction", direction, DIRECTIONS)
    log_p_s = log_probabilities(student_logits, T)
    log_p_t = log_probabilities(teacher_logits.detach(), T)
    return reduce(who, _kl(log_p_t, log_p_s) if direction == "forward" else _kl(log_p_s, log_p_t), reduction)


def hinton_loss(
    student_logits: Float[Tensor, "B C"],
    teacher_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"] | None,
    alpha: float | int,
    T: float | int,
    direction: str = "forward",
    reduction: str = "batchmean",
) -> Float[Tensor, "*rows"]:
    r"""Knowledge distillation, eq. (5): a label part at $T = 1$ and a soft part at temperature $T$.

    $$ L = (1-\alpha)\, \bigl(-\log \mathrm{softmax}(u)_y\bigr) + \alpha\, T^2\, \mathrm{KL}(p^T_t \,\|\, p^T_s) $$

    where $u$ are the student's logits and $p^T$ soft targets. $T^2$ keeps the two gradients in proportion when $T$ changes,
    see eq. (7).

    labels: class numbers; None is allowed at alpha = 1, where no label is used.  alpha: fraction, weight of the soft part.
    direction, reduction: as in `soft_loss`.  Returns nats (a sample).
    Raises ValueError for alpha outside [0, 1], T <= 0, a T so high that T^2 magnifies roundings beyond 1 (2896 in
    float32), shapes that differ, labels out of range or missing, NaN.
    Source: Hinton et al. 2015, section 2 (its weights are here (1 - alpha) and alpha T^2).
    Notebook: 03_3_knowledge_distillation.
    """
    who = "hinton_loss"
    check_logits(who, "student_logits", student_logits)
    check_logits(who, "teacher_logits", teacher_logits, like=student_logits)
    check_squared_temperature(who, T, student_logits, teacher_logits)
    check_fraction(who, "alpha", alpha)
    losses = alpha * T**2 * soft_loss(student_logits, teacher_logits, T, direction, "none")  # (B)
    if labels is not None:
        check_labels(who, "labels", labels, student_logits)
        losses = losses + (1 - alpha) * _cross_entropy(student_logits, labels)
    elif alpha < 1:
        raise ValueError(f"{who}: labels are None, but alpha = {alpha:g} gives them the weight {1 - alpha:g}; pass alpha=1")
    return reduce(who, losses, reduction)


def soft_loss_gradient(
    student_logits: Float[Tensor, "B C"],
    teacher_logits: Float[Tensor, "B C"],
    T: float | int,
    direction: str = "forward",
) -> Float[Tensor, "B C"]:
    r"""The gradient of `soft_loss(..., reduction="sum")` by the student's logits, eq. (6), written out.

    $$ \frac{\partial\, \mathrm{KL}(p_t \| p_s)}{\partial u} = \frac{p_s - p_t}{T}, \qquad
       \frac{\partial\, \mathrm{KL}(p_s \| p_t)}{\partial u}
       = \frac{p_s}{T} \odot \bigl( \log p_s - \log p_t - \mathrm{KL}(p_s \| p_t) \bigr) $$

    where every $p$ is taken at temperature $T$. Each row sums to zero: a softmax does not see a constant added to its logits.

    Returns loss per logit, dimensionless.
    Raises ValueError for T <= 0, shapes that differ, NaN, or an unknown direction.
    Source: Hinton et al. 2015, eq. (2).  Notebook: 03_3_knowledge_distillation.
    """
    who = "soft_loss_gradient"
    check_logits(who, "student_logits", student_logits)
    check_logits(who, "teacher_logits", teacher_logits, like=student_logits)
    check_temperature(who, T, student_logits, teacher_logits)
    check_choice(who, "direction", direction, DIRECTIONS)
    log_p_s = log_probabilities(student_logits.detach(), T)
    log_p_t = log_probabilities(teacher_logits.detach(), T)
    if direction == "forward":
        return (log_p_s.exp() - log_p_t.exp()) / T
    surprise = log_p_s - log_p_t  # (B, C)
    return log_p_s.exp() * (surprise - _kl(log_p_s, log_p_t)[:, None]) / T


def logit_matching_gradient(student_logits: Float[Tensor, "B C"], teacher_logits: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    r"""What $T^2$ times the gradient (6) becomes at very high temperature, eq. (7).

    $$ \lim_{T \to \infty} T^2 \frac{\partial\, \mathrm{KL}}{\partial u_c}
       = \frac1C \bigl[ (u_c - \bar u) - (v_c - \bar v) \bigr] $$

    where $\bar u, \bar v$ are means over the $C$ classes: the gradient of matching centred logits,
    $\frac{1}{2C} \sum_c ((u_c - \bar u) - (v_c - \bar v))^2$. Forward at a finite $T$, no entry is off by more than
    $4 e^{2M/T} M^2 / (C\,T)$, with $M$ the largest $|u_c - \bar u|$ or $|v_c - \bar v|$. The reverse KL has the same limit.

    Raises ValueError for NaN or shapes that differ.
    Source: Hinton et al. 2015, eq. (3) and (4), section 2.1; without its assumption that logits have mean zero.
    Notebook: 03_3_knowledge_distillation.
    """
    who = "logit_matching_gradient"
    check_logits(who, "student_logits", student_logits)
    check_logits(who, "teacher_logits", teacher_logits, like=student_logits)
    D = student_logits.detach() - teacher_logits.detach()
    return (D - D.mean(dim=1, keepdim=True)) / D.shape[1]


def label_smoothing_loss(
    student_logits: Float[Tensor, "B C"],
    labels: Int[Tensor, "B"],
    epsilon: float | int = 0.1,
    reduction: str = "batchmean",
) -> Float[Tensor, "*rows"]:
    r"""Cross-entropy with labels that give away a share $\varepsilon$ evenly: distillation from a teacher who knows nothing.

    $$ L = (1-\varepsilon)\,(-\log p_y) + \varepsilon\, \frac1C \sum_c (-\log p_c)
         = (1-\varepsilon)\,(-\log p_y) + \varepsilon \bigl[ \mathrm{KL}(\tfrac1C \,\|\, p) + \log C \bigr] $$

    where $p = \mathrm{softmax}(u)$. The second form is `hinton_loss` with $\alpha = \varepsilon$, $T = 1$ and a teacher whose
    logits are all equal, plus a constant that no gradient sees.

    epsilon: fraction.  reduction: as in `soft_loss`.  Returns nats (a sample).
    Raises ValueError for epsilon outside [0, 1], labels out of range, NaN, or an unknown reduction.
    Source: Szegedy et al. 2016, section 7; Yuan et al. 2020, section 3.  Notebook: 03_3_knowledge_distillation.
    """
    who = "label_smoothing_loss"
    check_logits(who, "student_logits", student_logits)
    check_labels(who, "labels", labels, student_logits)
    check_fraction(who, "epsilon", epsilon)
    log_p = log_probabilities(student_logits)
    even = -log_p.mean(dim=1)  # (B): cross-entropy with 1/C for every class
    return reduce(who, (1 - epsilon) * _cross_entropy(student_logits, labels) + epsilon * even, reduction)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p of the named class, (B)."""
    return -log_probabilities(logits).gather(1, labels.long()[:, None])[:, 0]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of each row, (B)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
