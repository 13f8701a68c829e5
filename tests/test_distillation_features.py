"""Hints, attention maps, input sensitivity: the sums typed again, and what each of them is blind to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.distillation import (
    attention_loss,
    attention_map,
    hint_loss,
    hint_projection,
    input_sensitivity,
    sensitivity_loss,
)


def randn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


seeds = st.integers(0, 2**31 - 2)
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # sums of at most 200 doubles of size 1 to 100


@given(seeds)
def test_hint_loss_is_the_formula_spelled_out(seed):
    H_s, H_t, P = randn(seed, 3, 4), randn(seed + 1, 3, 5), randn(7, 5, 4)
    total = 0.0
    for b in range(3):
        for t in range(5):
            total += (float(H_t[b, t]) - math.fsum(float(P[t, s]) * float(H_s[b, s]) for s in range(4))) ** 2
    assert hint_loss(H_s, H_t, P).item() == pytest.approx(total / (2 * 3), rel=1e-12)


@given(seeds)
def test_projection_of_feature_maps_is_a_one_by_one_convolution(seed):
    """An independent oracle: torch's own convolution."""
    A_s, A_t, P = randn(seed, 2, 3, 4, 5), randn(seed + 1, 2, 6, 4, 5), randn(seed, 6, 3)
    projected = nn.functional.conv2d(A_s, P[:, :, None, None])
    expected = ((A_t - projected) ** 2).sum() / (2 * 2)
    torch.testing.assert_close(hint_loss(A_s, A_t, P), expected, **CLOSE)


@given(seeds)
def test_no_projection_has_a_smaller_hint_than_least_squares(seed):
    """The hint is the squared error of a linear regression: numpy's solver bounds it from below."""
    H_s, H_t = randn(seed, 12, 3), randn(seed + 1, 12, 4)
    best = torch.linalg.lstsq(H_s, H_t).solution.T  # (4, 3)
    assert hint_loss(H_s, H_t, best) <= hint_loss(H_s, H_t, best + 0.1 * randn(seed, 4, 3)) + 1e-12


def test_hint_loss_hand_example_and_equal_widths_need_no_projection():
    H_s, H_t = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert hint_loss(H_s, H_t).item() == pytest.approx((4 + 9) / 4)
    assert hint_loss(H_s, H_t, torch.tensor([[0.0, 1.0], [1.0, 0.0]])).item() == pytest.approx((1 + 1 + 9) / 4)


def test_hint_projection_keeps_the_size_of_the_features():
    """E ||P h||^2 / n_t = ||h||^2 / n_s. Relative spread sqrt(2 / 400) = 7 %: five of them are 35 %."""
    P, h = hint_projection(900, 400, seed=3), torch.ones(900)
    assert isinstance(P, nn.Parameter) and P.requires_grad and P.shape == (400, 900)
    assert (P @ h).square().mean().item() == pytest.approx(1.0, rel=0.35)
    assert hint_projection(3, 4, seed=1).equal(hint_projection(3, 4, seed=1))
    assert not hint_projection(3, 4, seed=1).equal(hint_projection(3, 4, seed=2))


@given(seeds, st.sampled_from([1, 2, 3.5]))
def test_attention_map_is_the_formula_spelled_out(seed, p):
    A = randn(seed, 2, 3, 2, 4)
    for b, row in enumerate(attention_map(A, p).tolist()):
        Q = [math.fsum(abs(float(A[b, c, i, j])) ** p for c in range(3)) for i in range(2) for j in range(4)]
        norm = math.sqrt(math.fsum(q * q for q in Q))
        assert row == pytest.approx([q / norm for q in Q], rel=1e-10)


@given(seeds, st.floats(1e-3, 1e3))
def test_attention_is_blind_to_scale_sign_and_order_of_the_channels(seed, scale):
    A = randn(seed, 2, 3, 4, 4)
    torch.testing.assert_close(attention_map(-scale * A.flip(1)), attention_map(A), **CLOSE)


@given(seeds)
def test_attention_loss_is_one_minus_the_cosine(seed):
    """|a - b|^2 / 2 = 1 - cos for unit vectors; torch's cosine is the oracle. Numbers of channels differ."""
    A_s, A_t = randn(seed, 3, 2, 4, 4), randn(seed + 1, 3, 7, 4, 4)
    Q_s, Q_t = (A.square().sum(1).flatten(1) for A in (A_s, A_t))
    expected = (1 - nn.functional.cosine_similarity(Q_s, Q_t, dim=1)).mean()
    torch.testing.assert_close(attention_loss(A_s, A_t), expected, **CLOSE)
    assert 0 <= attention_loss(A_s, A_t) <= 1


def test_attention_of_a_silent_layer_is_zero_and_trains_without_nan():
    """ReLU networks have dead layers: 0/0 must become 0, and the gradient stay finite."""
    A = torch.zeros(1, 2, 3, 3, requires_grad=True)
    attention_loss(A, torch.ones(1, 2, 3, 3)).backward()
    assert attention_map(A).tolist() == [[0.0] * 9] and A.grad.isfinite().all()
    assert attention_map(torch.full((1, 1, 1, 1), -4.0)).tolist() == [[1.0]]
    tiny = attention_map(torch.full((1, 1, 1, 2), 1e-15))  # its square is 1e-30, and the square of that is 0 in float32
    assert tiny[0].tolist() == pytest.approx([math.sqrt(0.5)] * 2, rel=1e-5)


def tiny_network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def test_input_sensitivity_is_the_slope_of_each_samples_loss():
    """Central differences, h = 1e-5: the error is of order h^2 + 1e-16 / h = 1e-10."""
    model, X, labels, h = tiny_network(0), randn(1, 3, 4), torch.tensor([0, 2, 1]), 1e-5
    J = input_sensitivity(model, X, labels)
    for b in range(3):
        for i in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[i] = h
            up, down = (nn.functional.cross_entropy(model(X[b : b + 1] + s * step), labels[b : b + 1]) for s in (1, -1))
            assert J[b, i].item() == pytest.approx((up - down).item() / (2 * h), abs=1e-8)
    assert all(p.grad is None for p in model.parameters()) and not J.requires_grad


def test_a_loss_on_sensitivities_trains_the_student_and_not_the_teacher():
    student, teacher, X, labels = tiny_network(0), tiny_network(1), randn(1, 3, 4), torch.tensor([0, 2, 1])
    J_t = input_sensitivity(teacher, X, labels, create_graph=True)
    loss = sensitivity_loss(input_sensitivity(student, X, labels, create_graph=True), J_t)
    loss.backward()
    assert student[0].weight.grad.abs().max() > 0 and teacher[0].weight.grad is None
    assert sensitivity_loss(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])) == (1 + 4 + 9) / 4
    with torch.no_grad():  # a teacher is usually asked under no_grad
        torch.testing.assert_close(input_sensitivity(teacher, X, labels), J_t.detach(), **CLOSE)


def test_teacher_gets_no_gradient_and_inputs_stay_as_they_were():
    A_s, A_t = randn(1, 2, 3, 4, 4), randn(2, 2, 3, 4, 4)
    before = A_s.clone(), A_t.clone()
    A_s, A_t = A_s.requires_grad_(), A_t.requires_grad_()
    loss = hint_loss(A_s, A_t) + attention_loss(A_s, A_t)
    loss.backward()
    assert A_t.grad is None and A_s.grad.abs().max() > 0
    assert A_s.detach().equal(before[0]) and A_t.detach().equal(before[1])
    assert loss.equal(hint_loss(A_s, A_t) + attention_loss(A_s, A_t))


H, A = torch.zeros(2, 3), torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: hint_loss(H, torch.zeros(2, 5)), "widths are matched by P"),
        (lambda: hint_loss(H, torch.zeros(2, 5), torch.zeros(3, 5)), r"\(n_teacher, n_student\) = \(5, 3\), got \(3, 5\)"),
        (lambda: hint_loss(H, torch.zeros(1, 3)), "differ in shape"),
        (lambda: hint_loss(torch.zeros(3), torch.zeros(3)), "need a batch and a width"),
        (lambda: hint_loss(H * float("nan"), H), "6 NaN"),
        (lambda: hint_projection(0, 3), "n_student must be a whole number >= 1"),
        (lambda: hint_projection(2, 2.5), "n_teacher must be a whole number"),
        (lambda: attention_map(H), "a fully connected layer has no places"),
        (lambda: attention_map(A, 0), "p must be > 0"),
        (lambda: attention_loss(A, torch.zeros(2, 3, 2, 2)), "adaptive_avg_pool2d"),
        (lambda: attention_loss(A, A[:1]), "batch and places must agree"),
        (lambda: input_sensitivity(nn.Linear(3, 2), H, torch.tensor([0, 2])), "0 ... 1"),
        (lambda: input_sensitivity(nn.Linear(3, 2), H / 0, torch.tensor([0, 1])), "6 NaN"),
        (lambda: sensitivity_loss(H, H[:1]), "must have shape"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize(
    "dtype, exponent", [(torch.float32, 100), (torch.float32, -100), (torch.float64, 900), (torch.float16, 7)]
)
def test_attention_does_not_see_the_scale_even_where_its_power_would_overflow(p, dtype, exponent):
    """Eq. (2) is of degree 0 in A, and a power of two changes no mantissa: the same bits, at 2^100 to the fourth power too."""
    A = randn(5, 2, 3, 4, 4).to(dtype)
    scaled = A * 2.0**exponent
    assert scaled.isfinite().all()
    assert attention_map(scaled, p).equal(attention_map(A, p))
    assert attention_map(scaled, p).double().norm(dim=1).allclose(torch.ones(2, dtype=torch.float64), rtol=0, atol=4e-3)


def test_the_scale_taken_out_of_attention_leaves_the_gradient_right():
    """The factor is detached; the loss is of degree 0 in A, so the gradient is of degree -1 and orthogonal to A."""
    A, T = randn(1, 2, 3, 4, 4), randn(2, 2, 5, 4, 4)
    grads = []
    for c in (1.0, 2.0**300):
        x = (c * A).requires_grad_(True)
        grads.append(torch.autograd.grad(attention_loss(x, T, 4), x)[0])
    assert (grads[1] * 2.0**300).equal(grads[0]) and grads[0].abs().max() > 0
    torch.testing.assert_close((grads[0] * A).sum(dim=(1, 2, 3)), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: attention_map(x, 4), A.requires_grad_(True))
