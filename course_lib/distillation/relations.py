r"""Teaching relations instead of values: who lies near whom, and at which angle (section 3.3).

A feature vector means nothing alone: rotate a layer's features, turn the next layer's weights back, and nothing changes. What
survives is the geometry of a batch: distances between samples, angles among three of them. Relational distillation
compares those, so student and teacher may have different widths and no projection is needed.

    (1)  d_ij  =  ||h_i - h_j|| / mu,      mu = mean over i != j of ||h_i - h_j||
    (2)  a_ijk =  < e_ij, e_kj >,          e_ij = (h_i - h_j) / ||h_i - h_j||          angle at j, its cosine
    (3)  L     =  mean over pairs (triples) of huber(teacher's - student's)
    (4)  huber(x) = x^2 / 2 for |x| <= 1,  |x| - 1/2 otherwise

mu makes (1) blind to the overall scale, (2) is blind to it by nature; both are blind to rotations and shifts of either side.
Costs grow as B^2 n and B^3: for a batch of 128, 2 million angles.

Left out: nothing of the two losses. What production libraries do differently: the authors' code averages over all entries of
the matrix, the zero diagonal included, (B - 1)/B of our mean; the paper's equations sum.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib._check import check_tensor

MAX_ANGLE_BATCH = 512  # 512^3 float32 cosines are 0.5 GB


def pair_distances(H: Float[Tensor, "B n"]) -> Float[Tensor, "B B"]:
    r"""Euclidean distances between the rows of a batch, divided by their mean, eq. (1).

    $$ d_{ij} = \frac{1}{\mu} \lVert h_i - h_j \rVert, \qquad
       \mu = \frac{1}{B(B-1)} \sum_{i \ne j} \lVert h_i - h_j \rVert $$

    where $h_i$ is the feature vector of sample $i$. Where all samples coincide there is no scale and every distance is 0.

    H: one row a sample, at least two.  Returns dimensionless distances, 0 on the diagonal.
    Raises ValueError for fewer than two samples, another rank, or NaN.
    Source: Park et al. 2019, section 3.2.1.  Notebook: 03_3_knowledge_distillation.
    """
    _check_batch("pair_distances", "H", H, 2)
    D = _norms(_differences(_scaled(H)))
    n_pairs = len(H) * (len(H) - 1)
    mu = D.sum() / n_pairs
    return D / torch.where(mu > 0, mu, torch.ones_like(mu))


def distance_loss(H_student: Float[Tensor, "B n_s"], H_teacher: Float[Tensor, "B n_t"]) -> Float[Tensor, ""]:
    r"""Relational distillation by distances, eq. (1), (3), (4).

    $$ L = \frac{1}{B(B-1)} \sum_{i \ne j} \mathrm{huber}\bigl( d^t_{ij} - d^s_{ij} \bigr) $$

    where $d$ comes from `pair_distances`, and huber is eq. (4). The teacher gets no gradient.

    Returns a dimensionless number >= 0.
    Raises ValueError as `pair_distances`, or where the two batches differ in size.
    Source: Park et al. 2019, section 3.2.1.  Notebook: 03_3_knowledge_distillation.
    """
    _check_two("distance_loss", H_student, H_teacher, 2)
    D = pair_distances(H_teacher.detach()) - pair_distances(H_student)
    return _huber(D).sum() / (len(D) * (len(D) - 1))  # the diagonal adds 0


def triple_angles(H: Float[Tensor, "B n"]) -> Float[Tensor, "B B B"]:
    r"""Cosine of the angle that samples $i$ and $k$ form at sample $j$, stored at [j, i, k], eq. (2).

    $$ a_{ijk} = \langle e_{ij}, e_{kj} \rangle, \qquad e_{ij} = \frac{h_i - h_j}{\lVert h_i - h_j \rVert} $$

    where $h_i$ is the feature vector of sample $i$. A side of length zero has no direction: its cosines are 0.

    H: one row a sample, 3 to 512 of them.  Returns cosines in [-1, 1].
    Raises ValueError for a batch outside 3 ... 512, another rank, or NaN.
    Source: Park et al. 2019, section 3.2.2.  Notebook: 03_3_knowledge_distillation.
    """
    _check_batch("triple_angles", "H", H, 3)
    if len(H) > MAX_ANGLE_BATCH:
        raise ValueError(f"triple_angles: {len(H)} samples make {len(H) ** 3:,} angles; pass at most {MAX_ANGLE_BATCH}")
    E = _differences(_scaled(H))  # (B, B, n): [j, i] = h_i - h_j
    length = _norms(E)[..., None]
    E = E / torch.where(length > 0, length, torch.ones_like(length))
    return E @ E.transpose(1, 2)  # (B, B, B): [j, i, k]


def angle_loss(H_student: Float[Tensor, "B n_s"], H_teacher: Float[Tensor, "B n_t"]) -> Float[Tensor, ""]:
    r"""Relational distillation by angles, eq. (2) to (4): the mean over all triples of three different samples.

    $$ L = \frac{1}{B(B-1)(B-2)} \sum_{i \ne j \ne k \ne i} \mathrm{huber}\bigl( a^t_{ijk} - a^s_{ijk} \bigr) $$

    where $a$ comes from `triple_angles`, and huber is eq. (4). The teacher gets no gradient.

    Returns a dimensionless number in [0, 1.5].
    Raises ValueError as `triple_angles`, or where the two batches differ in size.
    Source: Park et al. 2019, section 3.2.2.  Notebook: 03_3_knowledge_distillation.
    """
    _check_two("angle_loss", H_student, H_teacher, 3)
    losses = _huber(triple_angles(H_teacher.detach()) - triple_angles(H_student))  # (B, B, B)
    B = len(losses)
    # i = k has cosine 1 unless h_i = h_j, so it can differ between the two; it is no triple and goes.
    losses = losses * ~torch.eye(B, dtype=torch.bool, device=losses.device)
    return losses.sum() / (B * (B - 1) * (B - 2))


def _scaled(H: Tensor) -> Tensor:
    """H over its largest magnitude: (1) and (2) do not see a scale, so it needs no gradient, and no sum can overflow."""
    return H / _positive(H.detach().abs().max())


def _positive(X: Tensor) -> Tensor:
    """A divisor: ones in place of zeros."""
    return torch.where(X > 0, X, torch.ones_like(X))


def _differences(H: Tensor) -> Tensor:
    """(B, n) -> (B, B, n) with h_i - h_j at [j, i]."""
    return H[None, :, :] - H[:, None, :]


def _norms(E: Tensor) -> Tensor:
    """Length of each last-axis vector; a zero vector has length 0 and gradient 0 (the square root's own would be infinite).

    Each vector is divided by its largest entry before the squares, so that a short one does not underflow to length 0.
    """
    largest = _positive(E.detach().abs().amax(dim=-1, keepdim=True))  # no gradient: multiplied back below
    squares = (E / largest).square().sum(dim=-1)
    is_zero = squares == 0
    return largest[..., 0] * torch.where(
        is_zero, torch.zeros_like(squares), torch.where(is_zero, torch.ones_like(squares), squares).sqrt()
    )


def _huber(X: Tensor) -> Tensor:
    """Eq. (4), entry by entry."""
    A = X.abs()
    return torch.where(A <= 1, X.square() / 2, A - 0.5)


def _check_batch(who: str, name: str, H, n_least: int) -> None:
    check_tensor(who, name, H, ndim=2)
    if len(H) < n_least:
        raise ValueError(f"{who}: {name} needs at least {n_least} samples to relate, got {len(H)}")


def _check_two(who: str, H_student, H_teacher, n_least: int) -> None:
    _check_batch(who, "H_student", H_student, n_least)
    _check_batch(who, "H_teacher", H_teacher, n_least)
    if len(H_student) != len(H_teacher):
        raise ValueError(f"{who}: the same samples are needed on both sides, got {len(H_student)} and {len(H_teacher)}")
