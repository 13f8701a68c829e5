"""Decoupled distillation: the identity of Zhao et al., and its two parts typed again in float64 loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.distillation import decoupled_loss, decoupled_parts, hinton_loss, soft_loss


def draw(seed, B=4, C=6, scale=3.0):
    g = torch.Generator().manual_seed(seed)
    u, v = (scale * torch.randn(B, C, generator=g, dtype=torch.float64) for _ in range(2))
    return u, v, torch.randint(0, C, (B,), generator=g)


batches = st.integers(0, 2**31 - 1).map(draw)
temperatures = st.floats(0.5, 20)
CLOSE = {"rtol": 1e-9, "atol": 1e-10}  # sums of some 20 numbers below 1e2, each rounded to 1e-16 relative


def spelled_out(row_u, row_v, y, T):
    """(TCKD, NCKD, 1 - p_t) of one row, from exponentials and sums alone."""
    e_s, e_t = ([math.exp(x / T) for x in row] for row in (row_u, row_v))
    q, p = e_s[y] / math.fsum(e_s), e_t[y] / math.fsum(e_t)
    tckd = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    others = [c for c in range(len(row_u)) if c != y]
    sum_s, sum_t = math.fsum(e_s[c] for c in others), math.fsum(e_t[c] for c in others)
    nckd = math.fsum(e_t[c] / sum_t * math.log((e_t[c] / sum_t) / (e_s[c] / sum_s)) for c in others)
    return tckd, nckd, 1 - p


@given(batches, temperatures)
def test_parts_are_the_formulas_spelled_out(batch, T):
    u, v, labels = batch
    rows = [spelled_out(*row, T) for row in zip(u.tolist(), v.tolist(), labels.tolist())]
    for got, expected in zip(decoupled_parts(u, v, labels, T), zip(*rows)):
        torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)  # 1 - p cancels


@given(batches, temperatures)
def test_the_two_parts_add_up_to_the_KL_divergence(batch, T):
    """Eq. (3), an identity: NCKD is weighted by what the teacher leaves to the other classes."""
    u, v, labels = batch
    tckd, nckd, rest = decoupled_parts(u, v, labels, T)
    torch.testing.assert_close(tckd + rest * nckd, soft_loss(u, v, T, reduction="none"), **CLOSE)


@given(batches, st.floats(0, 3), st.floats(0, 10), temperatures)
def test_loss_weighs_the_parts_and_holds_T_squared(batch, a, b, T):
    u, v, labels = batch
    tckd, nckd, _ = decoupled_parts(u, v, labels, T)
    expected = T**2 * (a * tckd + b * nckd)
    torch.testing.assert_close(decoupled_loss(u, v, labels, T, a, b, "none"), expected, **CLOSE)
    torch.testing.assert_close(decoupled_loss(u, v, labels, T, a, b, "sum"), expected.sum(), **CLOSE)
    torch.testing.assert_close(decoupled_loss(u, v, labels, T, a, b), expected.sum() / 4, **CLOSE)


def test_hand_example():
    """Teacher (1/2, 1/4, 1/4), student (1/2, 3/8, 1/8), label 0: TCKD = 0, NCKD = KL((1/2,1/2) || (3/4,1/4))."""
    v, u = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.5, 0.375, 0.125]]).log()
    tckd, nckd, rest = (x.item() for x in decoupled_parts(u, v, torch.tensor([0])))
    assert (tckd, rest) == pytest.approx((0, 0.5), abs=1e-6)
    assert nckd == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-5)
    default = decoupled_loss(u, v, torch.tensor([0]), 1).item()
    assert default == pytest.approx(8 * nckd, rel=1e-5)  # the paper's weights: 1 and 8


def test_with_two_classes_nothing_is_left_among_the_others():
    u, v, labels = draw(1, C=2)
    tckd, nckd, _ = decoupled_parts(u, v, labels, 2.0)
    assert nckd.tolist() == [0.0] * 4
    torch.testing.assert_close(tckd, soft_loss(u, v, 2.0, reduction="none"), **CLOSE)


def test_a_teacher_sure_beyond_float_precision_still_teaches_the_others():
    """p_t rounds to 1, so log(1 - p_t) from 1 - p_t would be -inf; Hinton's loss has nearly lost NCKD, ours keeps it."""
    v = torch.tensor([[60.0, 5.0, 0.0]])
    u = torch.tensor([[55.0, 0.0, 5.0]], requires_grad=True)
    tckd, nckd, rest = decoupled_parts(u, v, torch.tensor([0]))
    assert rest.item() < 1e-23 and nckd.item() == pytest.approx(5 * math.tanh(2.5), rel=1e-5)
    assert tckd.isfinite() and hinton_loss(u, v, None, 1, 1).abs() < 1e-5
    decoupled_loss(u, v, torch.tensor([0])).backward()
    assert u.grad.isfinite().all() and u.grad[0, 2] > 1


def test_teacher_gets_no_gradient_input_is_not_changed_and_twice_is_the_same():
    u, v, labels = draw(2)
    before = u.clone(), v.clone()
    assert decoupled_loss(u, v, labels, 2.0).equal(decoupled_loss(u, v, labels, 2.0))
    assert u.equal(before[0]) and v.equal(before[1])
    u, v = u.requires_grad_(), v.requires_grad_()
    decoupled_loss(u, v, labels, 2.0).backward()
    assert v.grad is None and u.grad is not None


def test_equal_logits_and_a_single_row_work():
    zeros, label = torch.zeros(1, 4), torch.tensor([1])
    assert decoupled_loss(zeros, zeros + 3, label, 2).abs() < 1e-6
    assert decoupled_parts(zeros, zeros, label)[2].item() == pytest.approx(0.75)


U, Y = torch.zeros(2, 3), torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: decoupled_parts(U, U, Y, 0), "T must be > 0"),
        (lambda: decoupled_parts(U, U[:1], Y), "must have shape"),
        (lambda: decoupled_parts(U, U, Y + 1), "0 ... 2"),
        (lambda: decoupled_parts(U[:, :1], U[:, :1], Y * 0), "C must be >= 2"),
        (lambda: decoupled_loss(U, U * float("nan"), Y), "6 NaN"),
        (lambda: decoupled_loss(U, U, Y, 1, -1.0), "target_weight must be >= 0"),
        (lambda: decoupled_loss(U, U, Y, 1, 1.0, float("inf")), "rest_weight must be a finite number"),
        (lambda: decoupled_loss(U, U, Y, reduction="mean"), "unknown reduction"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
