"""Relations: distances and angles typed again in loops, and the moves of the feature space that they must not see."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.distillation import angle_loss, distance_loss, pair_distances, triple_angles


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


seeds = st.integers(0, 2**31 - 2)
CLOSE = {"rtol": 1e-9, "atol": 1e-11}  # differences of numbers of size 1 to 10, 200 of them in a sum


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def distances(H):
    """Eq. (1) in loops."""
    rows = H.tolist()
    D = [[math.dist(a, b) for b in rows] for a in rows]
    mu = math.fsum(map(math.fsum, D)) / (len(D) * (len(D) - 1))
    return [[d / mu for d in row] for row in D]


def cosine_at(H, i, j, k):
    """Eq. (2) in loops: the angle at j."""
    a, b, c = H[i].tolist(), H[j].tolist(), H[k].tolist()
    dot = math.fsum((x - y) * (z - y) for x, y, z in zip(a, b, c))
    return dot / (math.dist(a, b) * math.dist(c, b))


@given(seeds)
def test_distances_and_their_loss_are_the_formulas_spelled_out(seed):
    H_s, H_t = 5 * randn(seed, 5, 2), randn(seed + 1, 5, 3)
    D_s, D_t = distances(H_s), distances(H_t)
    torch.testing.assert_close(pair_distances(H_s), torch.tensor(D_s, dtype=torch.float64), **CLOSE)
    expected = math.fsum(huber(D_t[i][j] - D_s[i][j]) for i in range(5) for j in range(5) if i != j) / 20
    assert distance_loss(H_s, H_t).item() == pytest.approx(expected, rel=1e-9)


@given(seeds)
def test_angles_and_their_loss_are_the_formulas_spelled_out(seed):
    H_s, H_t = randn(seed, 4, 2), randn(seed + 1, 4, 3)
    triples = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if len({i, j, k}) == 3]
    a_s, a_t = triple_angles(H_s), triple_angles(H_t)
    for i, j, k in triples:
        assert a_s[j, i, k].item() == pytest.approx(cosine_at(H_s, i, j, k), abs=1e-9)
    expected = math.fsum(huber(cosine_at(H_t, *t) - cosine_at(H_s, *t)) for t in triples) / len(triples)
    assert angle_loss(H_s, H_t).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert len(triples) == 4 * 3 * 2 and a_t.shape == (4, 4, 4)


@given(seeds, st.floats(0.01, 100))
def test_relations_do_not_see_rotation_shift_or_scale(seed, scale):
    """That is their point: a layer may turn its features without changing the network."""
    H = randn(seed, 6, 4)
    turn = torch.linalg.qr(randn(seed + 1, 4, 4)).Q
    moved = scale * H @ turn + randn(seed, 1, 4)
    torch.testing.assert_close(pair_distances(moved), pair_distances(H), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(triple_angles(moved), triple_angles(H), rtol=1e-8, atol=1e-9)
    assert distance_loss(moved, H) < 1e-15 and angle_loss(moved, H) < 1e-15


def test_hand_example_a_right_triangle():
    """Sides 3, 4, 5: mean 4. Cosines: 0 at the right angle, 3/5 and 4/5 at the others."""
    H = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    assert pair_distances(H).tolist() == [[0, 0.75, 1], [0.75, 0, 1.25], [1, 1.25, 0]]
    a = triple_angles(H)
    assert [a[0, 1, 2].item(), a[1, 0, 2].item(), a[2, 0, 1].item()] == pytest.approx([0, 0.6, 0.8], abs=1e-6)
    even = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])  # all sides 1, all cosines 1/2
    assert distance_loss(H, even).item() == pytest.approx(2 * (0.25**2 / 2 + 0 + 0.25**2 / 2) / 6, rel=1e-5)
    assert angle_loss(H, even).item() == pytest.approx(2 * (0.5**2 + 0.1**2 + 0.3**2) / 2 / 6, rel=1e-4)


def test_large_differences_count_linearly():
    """Huber beyond 1: the teacher's one outlier makes d = 2 for its pairs and 0 for all others."""
    H_t = torch.tensor([[0.0], [0.0], [0.0], [9.0]])  # d = 9 / (6 * 9 / 12) = 2 to the outlier
    H_s = torch.tensor([[9.0], [0.0], [0.0], [0.0]])
    # pairs (unordered): (0,3): 2 both. (0,1), (0,2): 0 against 2. (1,2): 0. (1,3), (2,3): 2 against 0.
    assert distance_loss(H_s, H_t).item() == pytest.approx(4 * 1.5 / 6)


def test_samples_that_coincide_train_without_nan():
    """The square root's slope at 0 is infinite; identical features are common after ReLU."""
    H = torch.ones(4, 3, requires_grad=True)
    teacher = randn(1, 4, 3).float()
    (distance_loss(H, teacher) + angle_loss(H, teacher)).backward()
    assert H.grad.isfinite().all() and pair_distances(H).eq(0).all() and triple_angles(H).eq(0).all()
    assert distance_loss(torch.zeros(2, 1), torch.zeros(2, 1)) == 0


def test_a_triple_has_three_different_samples():
    """Samples 0 and 1 coincide for the student alone. The cosine at [j, i, i] is then 0 for it and 1 for the teacher; such an
    entry is no triple and must not count."""
    H_s, H_t = torch.tensor([[0.0], [0.0], [1.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    # Corner 0: (1, 2): teacher 1, student 0. Corner 1: (0, 2): -1, 0. Corner 2: (0, 1): 1, 1. Each in both orders, 6 triples.
    assert angle_loss(H_s, H_t).item() == pytest.approx(2 * (0.5 + 0.5 + 0) / 6)


def test_gradient_is_that_of_the_formula():
    """gradcheck compares with central differences in double precision."""
    H_s, H_t = randn(1, 5, 2).requires_grad_(), randn(2, 5, 3)
    assert torch.autograd.gradcheck(lambda h: distance_loss(h, H_t), H_s)
    assert torch.autograd.gradcheck(lambda h: angle_loss(h, H_t), H_s)


def test_teacher_gets_no_gradient_input_is_not_changed_and_twice_is_the_same():
    H_s, H_t = randn(1, 5, 2), randn(2, 5, 3)
    before = H_s.clone(), H_t.clone()
    H_s, H_t = H_s.requires_grad_(), H_t.requires_grad_()
    for loss in (distance_loss, angle_loss):
        loss(H_s, H_t).backward()
        assert loss(H_s, H_t).equal(loss(H_s, H_t))
    assert H_t.grad is None and H_s.detach().equal(before[0]) and H_t.detach().equal(before[1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pair_distances(torch.zeros(1, 3)), "at least 2 samples"),
        (lambda: triple_angles(torch.zeros(2, 3)), "at least 3 samples"),
        (lambda: triple_angles(torch.zeros(513, 1)), "at most 512"),
        (lambda: distance_loss(torch.zeros(3, 2), torch.zeros(4, 2)), "got 3 and 4"),
        (lambda: angle_loss(torch.zeros(3, 2), torch.zeros(3, 2, 1)), "must have 2 dimension"),
        (lambda: pair_distances(torch.full((2, 2), float("nan"))), "4 NaN"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize(
    "dtype, exponent", [(torch.float32, 125), (torch.float32, -100), (torch.float64, -900), (torch.float16, 12)]
)
def test_relations_do_not_see_the_scale_even_where_squares_would_overflow(dtype, exponent):
    """Both relations are of degree 0 in H, and a power of two changes no mantissa: the same bits."""
    H = (randn(3, 5, 4) / 2).to(dtype)
    scaled = H * 2.0**exponent
    assert scaled.isfinite().all()
    assert pair_distances(scaled).equal(pair_distances(H)) and pair_distances(H).max() > 1
    assert triple_angles(scaled).equal(triple_angles(H))


def test_a_short_side_has_a_direction_too():
    """Two samples 1e-30 apart and one far away: the short side's square underflows in float32, its direction is (0, 1)."""
    H = torch.tensor([[0.0, 0.0], [0.0, 1e-30], [1.0, 0.0]])
    angles = triple_angles(H)
    assert angles[0, 1, 1] == 1 and angles[0, 1, 2] == 0


def test_the_scale_taken_out_of_relations_leaves_the_gradient_right():
    """The factor is detached; the losses are of degree 0 in H, so the gradient is of degree -1 and orthogonal to H."""
    H, T = randn(1, 5, 4), randn(2, 5, 3)
    for loss in (distance_loss, angle_loss):
        grads = []
        for c in (1.0, 2.0**300):
            x = (c * H).requires_grad_(True)
            grads.append(torch.autograd.grad(loss(x, T), x)[0])
        assert (grads[1] * 2.0**300).equal(grads[0]) and grads[0].abs().max() > 0
        assert abs((grads[0] * H).sum()) < 1e-12
        assert torch.autograd.gradcheck(loss, (H.clone().requires_grad_(True), T))
