r"""Teaching by the inner layers: hints, attention (section 3.3).

A network's answer has ten numbers, its hidden layers have thousands. Two classic ways to let a student look inside:

    (1)  hint         L  =  1/2 || H_t - P H_s ||^2                     FitNets; P maps the student's width to the teacher's
    (2)  attention    Q  =  sum_c |A_c|^p  over channels c;             where, in the image, does the layer respond?
                      L  =  1/2 || Q_t/||Q_t|| - Q_s/||Q_s|| ||^2
    (3)  sensitivity  J  =  d(loss)/dx;    L = 1/2 || J_t - J_s ||^2    where, in the image, does the loss respond?

each averaged over the batch. (1) asks for the same features up to a linear map P, which is learned along with the student and
thrown away. (2) asks for less: only for the same *places*, so the numbers of channels may differ. It needs places: the hidden
vector of a fully connected layer has none, and `attention_map` refuses it instead of inventing some. (3) is the same authors'
second form and works for every network over pixels, because the *input* has places; it costs a second backward pass.

Left out: which pairs of layers to choose, and the first stage of FitNets, which trains the lower half alone. What production
libraries do differently: the authors' released code of (2) takes the mean of the squared difference over places, which is
2 / (h w) times ours; the paper writes the norm, whose gradient is undefined where student and teacher agree.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib._check import check_count, check_number, check_tensor
from course_lib.distillation._door import check_labels, check_logits, log_probabilities


def hint_projection(n_student: int, n_teacher: int, seed: int = 0) -> nn.Parameter:
    r"""A fresh matrix $P$ for `hint_loss`, trainable, drawn so that $P H_s$ is about as large as $H_s$.

    $$ P_{ts} \sim \mathcal{N}(0, 1/n_s) $$

    where $n_s$ is the student's width. Hand it to the optimizer beside the student's parameters; it is no part of the student.

    n_student, n_teacher: features or channels.  Returns a parameter of shape (n_teacher, n_student).
    Raises ValueError where a width is no whole number >= 1.
    Source: Romero et al. 2015, section 2.2 (the regressor).  Notebook: 03_3_knowledge_distillation.
    """
    check_count("hint_projection", "n_student", n_student)
    check_count("hint_projection", "n_teacher", n_teacher)
    generator = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(n_teacher, n_student, generator=generator) / math.sqrt(n_student))


def hint_loss(
    H_student: Float[Tensor, "B n_student *places"],
    H_teacher: Float[Tensor, "B n_teacher *places"],
    P: Float[Tensor, "n_teacher n_student"] | None = None,
) -> Float[Tensor, ""]:
    r"""FitNets' hint, eq. (1): half the squared distance from projected student's to teacher's features, mean over the batch.

    $$ L = \frac{1}{2B} \sum_b \lVert H_{t,b} - P H_{s,b} \rVert^2 $$

    where the norm runs over features and, for feature maps (B, channels, h, w), over places too; $P$ then acts on the
    channels at each place, as a 1 x 1 convolution does. The teacher gets no gradient.

    P: None where both widths are equal and no projection is wanted.  Returns squared units of the features.
    Raises ValueError where batch, places or widths do not fit each other or P, or for NaN.
    Source: Romero et al. 2015, eq. (3).  Notebook: 03_3_knowledge_distillation.
    """
    who = "hint_loss"
    check_tensor(who, "H_student", H_student)
    check_tensor(who, "H_teacher", H_teacher)
    if min(H_student.ndim, H_teacher.ndim) < 2:
        raise ValueError(f"{who}: features need a batch and a width, got {tuple(H_student.shape)} and {tuple(H_teacher.shape)}")
    if P is not None:
        check_tensor(who, "P", P, ndim=2)
        if P.shape != (H_teacher.shape[1], H_student.shape[1]):
            wanted = (H_teacher.shape[1], H_student.shape[1])
            raise ValueError(f"{who}: P must have shape (n_teacher, n_student) = {wanted}, got {tuple(P.shape)}")
        H_student = torch.einsum("ts,bs...->bt...", P, H_student)
    if H_student.shape != H_teacher.shape:
        shapes = f"{tuple(H_student.shape)} and {tuple(H_teacher.shape)}"
        raise ValueError(f"{who}: student's and teacher's features differ in shape, {shapes}; widths are matched by P")
    return (H_teacher.detach() - H_student).square().sum() / (2 * len(H_student))


def attention_map(A: Float[Tensor, "B channels h w"], p: float | int = 2) -> Float[Tensor, "B hw"]:
    r"""Where a convolutional layer responds: channels summed away, one unit vector a sample, eq. (2).

    $$ Q = \sum_c |A_c|^p, \qquad \hat Q = Q / \lVert Q \rVert_2 $$

    where $A_c$ is channel $c$. A larger $p$ gives more weight to the strongest channel. A layer that is silent
    everywhere gives a row of zeros.

    A: feature maps.  p: dimensionless, > 0.  Returns dimensionless rows of norm 1, places in row order.
    Raises ValueError for anything but four dimensions (a fully connected layer has no places: use `input_sensitivity`),
    NaN, or p <= 0.
    Source: Zagoruyko and Komodakis 2017, section 3.1.  Notebook: 03_3_knowledge_distillation.
    """
    who = "attention_map"
    check_tensor(who, "A", A)
    if A.ndim != 4:
        raise ValueError(
            f"{who}: A must be feature maps (B, channels, h, w), got shape {tuple(A.shape)}; a fully connected layer has no"
            " places to attend to, but its input has: use input_sensitivity, or hint_loss and distance_loss for hidden vectors"
        )
    check_number(who, "p", p, above=0.0)
    # A sample's own scale cancels in (2). Dividing it out before the power and again before the squares keeps both from
    # overflow and underflow; because it cancels, it needs no gradient. A silent sample stays zero.
    A = A / _positive(A.detach().abs().amax(dim=(1, 2, 3), keepdim=True))
    Q = A.abs().pow(p).sum(dim=1).flatten(1)  # (B, h w)
    Q = Q / _positive(Q.detach().amax(dim=1, keepdim=True))
    return Q / _positive(Q.square().sum(dim=1, keepdim=True)).sqrt()


def attention_loss(
    A_student: Float[Tensor, "B channels_s h w"], A_teacher: Float[Tensor, "B channels_t h w"], p: float | int = 2
) -> Float[Tensor, ""]:
    r"""Attention transfer, eq. (2): half the squared distance between two attention maps, mean over the batch.

    $$ L = \frac{1}{2B} \sum_b \lVert \hat Q_{t,b} - \hat Q_{s,b} \rVert^2 = \frac1B \sum_b (1 - \cos(Q_{t,b}, Q_{s,b})) $$

    where $\hat Q$ are unit vectors (the second form holds where neither is silent). Channels may differ, places may not. The
    teacher gets no gradient.

    Returns a dimensionless number in [0, 1].
    Raises ValueError as `attention_map`, or where batch or places differ.
    Source: Zagoruyko and Komodakis 2017, section 3.1, the norm squared.  Notebook: 03_3_knowledge_distillation.
    """
    Q_student, Q_teacher = attention_map(A_student, p), attention_map(A_teacher.detach(), p)
    if A_student.shape[2:] != A_teacher.shape[2:] or len(A_student) != len(A_teacher):
        raise ValueError(
            f"attention_loss: batch and places must agree, got {tuple(A_student.shape)} and {tuple(A_teacher.shape)};"
            " torch.nn.functional.adaptive_avg_pool2d brings the larger map to the smaller one's size"
        )
    return (Q_teacher - Q_student).square().sum() / (2 * len(Q_student))


def input_sensitivity(
    model: nn.Module, X: Float[Tensor, "B *n"], labels: Int[Tensor, "B"], create_graph: bool = False
) -> Float[Tensor, "B *n"]:
    r"""Where the loss responds to the input, eq. (3): attention for networks whose hidden layers have no places.

    $$ J_b = \frac{\partial}{\partial x_b} \bigl( -\log \mathrm{softmax}(f(x_b))_{y_b} \bigr) $$

    where $f$ is the model. Each sample gets the gradient of its own loss, not divided by the batch size.

    create_graph: True for the student, so that a loss on $J$ can be trained (a second backward pass); False for the teacher.
    Returns nats per unit of input.
    Raises ValueError for NaN, no rows, or labels out of range.
    Source: Zagoruyko and Komodakis 2017, section 3.2.  Notebook: 03_3_knowledge_distillation.
    """
    who = "input_sensitivity"
    check_tensor(who, "X", X)
    with torch.enable_grad():
        x = X.detach().requires_grad_(True)
        logits = model(x)
        check_logits(who, "the model's logits", logits)
        check_labels(who, "labels", labels, logits)
        loss = -log_probabilities(logits).gather(1, labels.long()[:, None]).sum()
        return torch.autograd.grad(loss, x, create_graph=create_graph)[0]


def sensitivity_loss(J_student: Float[Tensor, "B *n"], J_teacher: Float[Tensor, "B *n"]) -> Float[Tensor, ""]:
    r"""Gradient-based attention transfer, eq. (3): half the squared distance between two sensitivities, mean over the batch.

    $$ L = \frac{1}{2B} \sum_b \lVert J_{t,b} - J_{s,b} \rVert^2 $$

    where $J$ comes from `input_sensitivity`. The teacher gets no gradient.

    Returns squared units of $J$.
    Raises ValueError for shapes that differ or NaN.
    Source: Zagoruyko and Komodakis 2017, section 3.2, the norm squared.  Notebook: 03_3_knowledge_distillation.
    """
    check_tensor("sensitivity_loss", "J_student", J_student)
    check_tensor("sensitivity_loss", "J_teacher", J_teacher, like=J_student)
    return (J_teacher.detach() - J_student).square().sum() / (2 * len(J_student))


def _positive(X: Tensor) -> Tensor:
    """X with every zero replaced by one: a safe divisor that turns 0/0 into 0."""
    return torch.where(X > 0, X, torch.ones_like(X))
