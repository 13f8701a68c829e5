"""Hinton's loss and its relatives: each equation of course_lib/distillation/losses.py typed again, in float64 loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from course_lib.distillation import (
    document_loss,
    hard_predictions,
    hinton_loss,
    label_smoothing_loss,
    logit_matching_gradient,
    soft_loss,
    soft_loss_gradient,
    soft_targets,
)

DIRECTIONS = ("forward", "reverse")
temperatures = st.floats(0.25, 50)
fractions = st.floats(0, 1)


def draw(seed, B=4, C=6, scale=3.0):
    """(student's logits, teacher's logits, labels) in double precision."""
    g = torch.Generator().manual_seed(seed)
    u, v = (scale * torch.randn(B, C, generator=g, dtype=torch.float64) for _ in range(2))
    return u, v, torch.randint(0, C, (B,), generator=g)


batches = st.integers(0, 2**31 - 1).map(draw)


def probabilities(row, T):
    """Eq. (3) for one row of numbers, no tensor involved."""
    e = [math.exp(x / T) for x in row]
    return [x / math.fsum(e) for x in e]


def kl_row(p, q):
    """Eq. (4) for one row."""
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))


def hinton_spelled_out(u, v, labels, alpha, T, direction):
    """Eq. (5), one value a sample."""
    losses = []
    for row_u, row_v, y in zip(u.tolist(), v.tolist(), labels.tolist()):
        p_s, p_t = probabilities(row_u, T), probabilities(row_v, T)
        kl = kl_row(p_t, p_s) if direction == "forward" else kl_row(p_s, p_t)
        losses.append((1 - alpha) * -math.log(probabilities(row_u, 1)[y]) + alpha * T * T * kl)
    return losses


# 1e-9: some 50 double roundings of numbers below 1e3 in the sums, 1e-16 each, times T^2 <= 2500.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@given(batches, fractions, temperatures, st.sampled_from(DIRECTIONS))
def test_hinton_loss_is_the_formula_spelled_out(batch, alpha, T, direction):
    u, v, labels = batch
    expected = torch.tensor(hinton_spelled_out(u, v, labels, alpha, T, direction), dtype=torch.float64)
    torch.testing.assert_close(hinton_loss(u, v, labels, alpha, T, direction, "none"), expected, **CLOSE)
    torch.testing.assert_close(hinton_loss(u, v, labels, alpha, T, direction, "sum"), expected.sum(), **CLOSE)
    torch.testing.assert_close(hinton_loss(u, v, labels, alpha, T, direction), expected.mean(), **CLOSE)


@given(batches, temperatures)
def test_forward_soft_loss_agrees_with_torch_batchmean(batch, T):
    """An independent oracle: torch takes log p_s first and p_t second, and only its 'batchmean' divides by B alone."""
    u, v, _ = batch
    expected = F.kl_div(F.log_softmax(u / T, 1), F.log_softmax(v / T, 1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(soft_loss(u, v, T), expected, **CLOSE)
    turned = F.kl_div(F.log_softmax(v / T, 1), F.log_softmax(u / T, 1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(soft_loss(u, v, T, direction="reverse"), turned, **CLOSE)


def test_the_loss_does_not_depend_on_the_number_of_classes():
    """Classes that neither believes in add nothing; a mean over the classes would shrink the loss with each."""
    u, v, labels = draw(1)
    wide = torch.nn.functional.pad
    loss = hinton_loss(u, v, labels, 0.7, 2.0)
    padded = hinton_loss(wide(u, (0, 90), value=-300.0), wide(v, (0, 90), value=-300.0), labels, 0.7, 2.0)
    torch.testing.assert_close(padded, loss, **CLOSE)  # exp(-150 + 9) is far below 1e-16


def test_hand_example():
    """v/T = (log 3, 0): p_t = (3/4, 1/4); u = 0: p_s = (1/2, 1/2). KL forward = log 2 - H(1/4), reverse = log(4/3)/2 ..."""
    T = 2.0
    v, u = torch.tensor([[T * math.log(3), 0.0]]), torch.zeros(1, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    close = {"rel": 1e-6}  # float32
    assert soft_targets(v, T).tolist()[0] == pytest.approx([0.75, 0.25], **close)
    assert soft_loss(u, v, T).item() == pytest.approx(forward, **close)
    assert soft_loss(u, v, T, "reverse").item() == pytest.approx(reverse, **close)
    expected = 0.25 * math.log(2) + 0.75 * 4 * forward
    assert hinton_loss(u, v, torch.tensor([1]), 0.75, T).item() == pytest.approx(expected, **close)
    assert soft_loss_gradient(u, v, T).tolist()[0] == pytest.approx([-0.125, 0.125], **close)


@given(batches, temperatures, st.sampled_from(DIRECTIONS))
def test_gradient_formula_is_what_autograd_finds(batch, T, direction):
    u, v, _ = batch
    u = u.requires_grad_()
    (found,) = torch.autograd.grad(soft_loss(u, v, T, direction, "sum"), u)
    torch.testing.assert_close(soft_loss_gradient(u, v, T, direction), found, **CLOSE)


@given(batches, temperatures)
def test_forward_gradient_is_the_difference_of_the_distributions_over_T(batch, T):
    """Eq. (6), spelled for one entry at a time."""
    u, v, _ = batch
    expected = [
        [(a - b) / T for a, b in zip(probabilities(row_u, T), probabilities(row_v, T))]
        for row_u, row_v in zip(u.tolist(), v.tolist())
    ]
    torch.testing.assert_close(soft_loss_gradient(u, v, T), torch.tensor(expected, dtype=torch.float64), **CLOSE)


@given(batches, temperatures, st.sampled_from(DIRECTIONS))
def test_each_row_of_the_gradient_sums_to_zero(batch, T, direction):
    """A softmax does not see a constant added to its logits."""
    assert soft_loss_gradient(*batch[:2], T, direction).sum(1).abs().max() < 1e-12 / T


@given(batches, st.floats(40, 1e4), st.sampled_from(DIRECTIONS))
def test_hot_gradient_times_T_squared_tends_to_logit_matching(batch, T, direction):
    """softmax_c(x) = (1 + x_c)/C + r with |r| <= 2 e^2 e^(2e) / C, e = max |x| (Taylor: p'' = p ((x-m)^2 - var)).

    Two such remainders, times T from T^2 (p_s - p_t)/T, e = M/T: 4 M^2 e^(2M/T) / (C T). Reverse: with d = u - v centred,
    T^2 times the gradient is p_s (d - E d), E over p_s; |d| <= 2M and |p_s - 1/C| <= 2M e^(2M/T) / (C T), so
    |(p_s - 1/C)(d - E d)| + |E d| / C <= (2M 4M + 2M 2M) e^(2M/T) / (C T).
    """
    u, v, _ = batch
    C = u.shape[1]
    M = max((x - x.mean(1, keepdim=True)).abs().max().item() for x in (u, v))
    bound = (4 if direction == "forward" else 12) * M**2 * math.exp(2 * M / T) / (C * T)
    difference = T**2 * soft_loss_gradient(u, v, T, direction) - logit_matching_gradient(u, v)
    assert difference.abs().max() <= bound + 1e-9


def test_logit_matching_gradient_is_that_of_half_the_squared_distance():
    u, v, _ = draw(3)
    u = u.requires_grad_()
    D = (u - u.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    (expected,) = torch.autograd.grad((D**2).sum() / (2 * 6), u)
    torch.testing.assert_close(logit_matching_gradient(u, v), expected, **CLOSE)
    hand = logit_matching_gradient(torch.tensor([[3.0, 0.0, 0.0]]), torch.zeros(1, 3))
    assert hand.tolist()[0] == pytest.approx([2 / 3, -1 / 3, -1 / 3], rel=1e-6)


def test_T_squared_keeps_the_size_of_the_soft_gradient():
    """Without it the gradient would be 10,000 times smaller at T = 100 than eq. (7); with it the ratio is 1 up to 1/T."""
    u, v, labels = draw(5, scale=0.5)
    u = u.requires_grad_()
    norms = [torch.autograd.grad(hinton_loss(u, v, labels, 1.0, T), u)[0].norm().item() for T in (50.0, 100.0, 200.0)]
    limit = logit_matching_gradient(u, v).norm().item() / len(u)
    assert norms == pytest.approx([limit] * 3, rel=0.1)


@given(batches, temperatures)
def test_soft_targets_are_distributions_that_flatten_with_T(batch, T):
    _, v, _ = batch
    p, hotter = soft_targets(v, T), soft_targets(v, 2 * T)
    assert (p.sum(1) - 1).abs().max() < 1e-12
    assert (hotter.max(1).values <= p.max(1).values + 1e-12).all()
    assert p.argsort(1).equal(v.argsort(1)) or T < 1  # at low T many shares round to equal zeros
    torch.testing.assert_close(p, torch.tensor([probabilities(row, T) for row in v.tolist()], dtype=torch.float64), **CLOSE)


@given(batches, temperatures, st.sampled_from(DIRECTIONS))
def test_soft_loss_is_never_negative_and_zero_only_for_equal_distributions(batch, T, direction):
    u, v, _ = batch
    assert (soft_loss(u, v, T, direction, "none") >= -1e-12).all()
    assert soft_loss(v + 7.0, v, T, direction).abs() < 1e-12  # a shift of all logits changes no distribution
    assert soft_loss(u, v, 1, direction) > 1e-6


@given(batches, st.sampled_from(DIRECTIONS))
def test_teacher_gets_no_gradient(batch, direction):
    u, v, labels = batch
    u, v = u.clone().requires_grad_(), v.clone().requires_grad_()
    (hinton_loss(u, v, labels, 0.5, 3, direction) + soft_loss(u, v, 2, direction)).backward()
    assert v.grad is None and u.grad.abs().max() > 0
    assert not hard_predictions(v).requires_grad and not soft_loss_gradient(u, v, 2.0).requires_grad


@pytest.mark.parametrize("scale", [1e4, 1e30])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_extreme_logits_give_finite_losses_and_gradients(scale, direction):
    u = torch.tensor([[scale, -scale, 0.0], [-scale, scale, scale]], requires_grad=True)
    v = torch.tensor([[-scale, scale, 0.0], [-scale, scale, scale]])
    loss = hinton_loss(u, v, torch.tensor([0, 1]), 0.5, 1.0, direction)
    loss.backward()
    assert loss.isfinite() and u.grad.isfinite().all()
    assert soft_loss(v, v, 1.0, direction) == 0
    # On row 1 each is certain of another class: the forward KL is the difference of the student's logits there.
    if direction == "forward":
        assert soft_loss(u, v, 1.0, reduction="none")[0].item() == pytest.approx(2 * scale, rel=1e-6)


def test_equal_logits_single_row_and_single_class_work():
    zeros = torch.zeros(1, 5)
    assert soft_loss(zeros, zeros, 3.0) == 0
    assert soft_targets(zeros, 0.1).tolist()[0] == pytest.approx([0.2] * 5)
    assert document_loss(zeros, torch.tensor([2])).item() == pytest.approx(math.log(5))
    assert hinton_loss(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([0]), 0.5, 2) == 0
    assert label_smoothing_loss(torch.zeros(1, 1), torch.tensor([0])) == 0


@given(batches)
def test_document_loss_with_labels_is_ordinary_training(batch):
    u, v, labels = batch
    torch.testing.assert_close(document_loss(u, labels), F.cross_entropy(u, labels), **CLOSE)
    torch.testing.assert_close(document_loss(u, labels), hinton_loss(u, v, labels, 0, 5), **CLOSE)


@given(batches)
def test_document_loss_with_the_teachers_classes_is_distillation_at_T_to_zero(batch):
    """At T = 1/1000 the teacher's soft target is its argmax, unless two logits lie within 0.03 (exp(-30) = 1e-13)."""
    u, v, _ = batch
    top = v.topk(2, dim=1).values
    v = v[(top[:, 0] - top[:, 1]) > 0.03]
    u = u[: len(v)]
    if len(v):
        assert hard_predictions(v).tolist() == [max(range(6), key=row.__getitem__) for row in v.tolist()]
        expected = -(soft_targets(v, 1e-3) * F.log_softmax(u, 1)).sum(1).mean()
        torch.testing.assert_close(document_loss(u, hard_predictions(v)), expected, **CLOSE)


@given(batches, fractions)
def test_label_smoothing_is_distillation_from_a_teacher_who_knows_nothing(batch, epsilon):
    """Equal up to the uniform teacher's entropy, epsilon log C, which no gradient sees."""
    u, _, labels = batch
    u = u.requires_grad_()
    smooth = label_smoothing_loss(u, labels, epsilon)
    distilled = hinton_loss(u, torch.full_like(u, 1.7), labels, epsilon, 1)
    torch.testing.assert_close(smooth, distilled + epsilon * math.log(6), **CLOSE)
    torch.testing.assert_close(torch.autograd.grad(smooth, u)[0], torch.autograd.grad(distilled, u)[0], **CLOSE)


@given(batches, fractions)
def test_label_smoothing_agrees_with_torch(batch, epsilon):
    u, _, labels = batch
    for ours, theirs in (("batchmean", "mean"), ("sum", "sum"), ("none", "none")):
        expected = F.cross_entropy(u, labels, label_smoothing=epsilon, reduction=theirs)
        torch.testing.assert_close(label_smoothing_loss(u, labels, epsilon, ours), expected, **CLOSE)


def test_input_is_not_changed_and_twice_is_the_same():
    u, v, labels = draw(9)
    before = u.clone(), v.clone(), labels.clone()
    for call in (
        lambda: hinton_loss(u, v, labels, 0.3, 4.0),
        lambda: soft_loss_gradient(u, v, 4.0, "reverse"),
        lambda: label_smoothing_loss(u, labels),
        lambda: logit_matching_gradient(u, v),
    ):
        assert call().equal(call())
    assert u.equal(before[0]) and v.equal(before[1]) and labels.equal(before[2])


def test_labels_may_be_missing_only_where_no_label_counts():
    u, v, labels = draw(2)
    torch.testing.assert_close(hinton_loss(u, v, None, 1, 4), hinton_loss(u, v, labels, 1, 4))
    with pytest.raises(ValueError, match=r"labels are None, but alpha = 0\.5"):
        hinton_loss(u, v, None, 0.5, 4)


U, Y = torch.zeros(2, 3), torch.tensor([0, 2])
BAD = [
    (lambda: hinton_loss(U, U, Y, 0.5, 0), "T must be > 0"),
    (lambda: hinton_loss(U, U, Y, 0.5, -1.0), "T must be > 0"),
    (lambda: hinton_loss(U, U, Y, 0.5, 1e30), "hinton_loss: T = 1e.30 is too high for torch.float32"),
    (lambda: hinton_loss(U.double(), U.double(), Y, 0.5, 1e8), "too high for torch.float64"),
    (lambda: hinton_loss(U, U, Y, 0.5, "2"), "T must be a finite number, got '2'"),
    (lambda: soft_loss(U, U, float("nan")), "T must be a finite number"),
    (lambda: hinton_loss(U, U, Y, 50, 2), "did you mean 0.5"),
    (lambda: hinton_loss(U, U, Y, -0.1, 2), "alpha is a fraction"),
    (lambda: hinton_loss(U, U[:, :2], Y, 0.5, 2), r"teacher_logits must have shape \(2, 3\), got \(2, 2\)"),
    (lambda: hinton_loss(U, U, torch.tensor([0, 3]), 0.5, 2), "0 ... 2"),
    (lambda: hinton_loss(U, U, torch.tensor([-1, 1]), 0.5, 2), "got -1 ... 1"),
    (lambda: hinton_loss(U, U, torch.tensor([0]), 0.5, 2), "1 labels for 2 rows"),
    (lambda: document_loss(U, torch.tensor([0.5, 0.5])), "are these probabilities"),
    (lambda: document_loss(U.long(), Y), "must be floating point"),
    (lambda: hinton_loss(U * float("nan"), U, Y, 0.5, 2), "6 NaN"),
    (lambda: hinton_loss(U, U.clone().fill_(float("inf")), Y, 0.5, 2), "6 infinite"),
    (lambda: soft_loss(U, U, 2, "sideways"), "unknown direction 'sideways'; known: 'forward', 'reverse'"),
    (lambda: soft_loss(U, U, 2, reduction="mean"), "unknown reduction 'mean'; known: 'batchmean'"),
    (lambda: label_smoothing_loss(U, Y, 1.5), "epsilon is a fraction"),
    (lambda: label_smoothing_loss(U, Y + 1), "0 ... 2"),
    (lambda: soft_loss_gradient(U, U, 1, "up"), "unknown direction"),
    (lambda: soft_loss_gradient(U, U, 0), "T must be > 0"),
    (lambda: logit_matching_gradient(U, U[:1]), "must have shape"),
    (lambda: hard_predictions(torch.zeros(0, 3)), "is empty"),
    (lambda: hard_predictions(torch.zeros(3)), "must have 2 dimension"),
    (lambda: soft_targets(U, 0), "T must be > 0"),
    (lambda: soft_targets(U + 1, 1e-39), "overflow"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_list_is_refused_with_advice(as_a_user):
    with pytest.raises(TypeError, match="as_tensor"):
        hinton_loss([[0.0, 1.0]], U, Y, 0.5, 2)
