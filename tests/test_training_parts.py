"""The parts of the loop, each equal to torch's: cross-entropy, the schedule, clipping; and each by hand."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from course_lib.training import clip_gradients, cross_entropy, warmup_cosine

EPS64 = 2.0**-52
seeds = st.integers(0, 2**31 - 1)


# cross_entropy


@given(seeds, st.floats(0.1, 50.0))
def test_cross_entropy_and_its_gradient_are_torchs(seed, size):
    """Sums of at most 8 terms: a few dozen roundings relative to the largest logit (up to 5 standard deviations)."""
    generator = torch.Generator().manual_seed(seed)
    ours = (size * torch.randn(5, 8, generator=generator, dtype=torch.float64)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    labels = torch.randint(8, (5,), generator=generator)
    a, b = cross_entropy(ours, labels), F.cross_entropy(theirs, labels)
    a.backward(), b.backward()
    assert abs(a.item() - b.item()) < 100 * EPS64 * 5 * max(size, 1)
    assert float((ours.grad - theirs.grad).abs().max()) < 1000 * EPS64 * max(size, 1)


def test_cross_entropy_is_its_formula_spelled_out():
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64), torch.tensor([1, 0])
    rows = [math.log(sum(math.exp(u) for u in row)) - row[y] for row, y in zip(logits.tolist(), labels.tolist())]
    assert abs(cross_entropy(logits, labels).item() - sum(rows) / 2) < 20 * EPS64


def test_the_gradient_of_cross_entropy_is_predicted_minus_true():
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1])
    cross_entropy(logits, labels).backward()
    expected = (logits.detach().softmax(dim=1) - F.one_hot(labels, 3)) / 4
    assert torch.allclose(logits.grad, expected, rtol=0, atol=20 * EPS64)


def test_huge_logits_do_not_overflow_and_equal_logits_give_log_c():
    assert cross_entropy(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])).item() == 1000.0
    assert abs(cross_entropy(torch.zeros(7, 10), torch.zeros(7, dtype=torch.int64)).item() - math.log(10)) < 1e-6
    assert cross_entropy(torch.tensor([[-5.0]]), torch.tensor([0])).item() == 0.0
    assert math.isnan(cross_entropy(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0])).item())


@pytest.mark.parametrize(
    "logits, labels, error, says",
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ValueError, "empty"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), ValueError, r"2 dimension"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), ValueError, "must be 2 whole"),
        (torch.zeros(2, 3), torch.zeros(2), ValueError, "whole class numbers"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, r"lie in 0\.\.2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), ValueError, r"got -1"),
        ([[0.0]], torch.tensor([0]), TypeError, "must be a torch.Tensor"),
    ],
)
def test_cross_entropy_refuses_bad_input_in_words(logits, labels, error, says, as_a_user):
    with pytest.raises(error, match=says):
        cross_entropy(logits, labels)


# warmup_cosine


@given(st.integers(1, 50), st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
def test_without_warm_up_it_is_torchs_cosine(n_steps, lr, low):
    """With T_max = n_steps. torch multiplies its way from step to step, so its roundings grow with the step number."""
    W = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([W], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps, eta_min=low * lr)
    for step in range(n_steps + 1):
        expected = optimizer.param_groups[0]["lr"]
        assert abs(warmup_cosine(step, n_steps, lr, lr_min=low * lr) - expected) <= 20 * (step + 1) * EPS64 * lr
        optimizer.step()
        schedule.step()


def test_hand_example_of_the_schedule():
    """Climb in 2 steps to 1, then 4 steps of half a cosine: 1, (1 + sqrt(1/2))/2, 1/2, ..., and 0 from step 6 on."""
    rates = [warmup_cosine(t, 6, 1.0, n_warmup=2) for t in range(8)]
    r = math.sqrt(0.5)
    assert torch.allclose(torch.tensor(rates), torch.tensor([0.5, 1, 1, (1 + r) / 2, 0.5, (1 - r) / 2, 0, 0]), atol=1e-7)


@given(st.integers(2, 100), st.data())
def test_the_rate_rises_to_lr_and_then_never_rises_again(n_steps, data):
    n_warmup = data.draw(st.integers(0, n_steps))
    rates = [warmup_cosine(t, n_steps, 0.3, n_warmup, lr_min=0.01) for t in range(n_steps)]
    assert all(a < b for a, b in pairwise(rates[:n_warmup])) and all(a >= b for a, b in pairwise(rates[n_warmup:]))
    assert max(rates) == pytest.approx(0.3) and min(rates) > 0


@pytest.mark.parametrize(
    "arguments, says",
    [((-1, 5, 0.1), "step"), ((0, 0, 0.1), "n_steps"), ((0, 5, 0.1, 6), "n_warmup <="), ((0, 5, 0.1, 0, 0.2), "lr_min <=")],
)
def test_an_impossible_schedule_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        warmup_cosine(*arguments)


# clip_gradients


@given(seeds, st.floats(0.01, 20.0))
def test_clipping_is_torchs(seed, max_norm):
    generator = torch.Generator().manual_seed(seed)
    ours = [torch.zeros(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5,), (2,))]
    for W in ours[:2]:
        W.grad = torch.randn(W.shape, generator=generator, dtype=torch.float64)
    theirs = copy.deepcopy(ours)
    for W, V in zip(ours[:2], theirs):
        V.grad = W.grad.clone()
    norm = clip_gradients(ours, max_norm)
    assert abs(norm - nn.utils.clip_grad_norm_(theirs, max_norm).item()) < 50 * EPS64 * norm
    for W, V in zip(ours[:2], theirs):
        assert torch.allclose(W.grad, V.grad, rtol=50 * EPS64, atol=0)
    assert ours[2].grad is None


def test_hand_example_of_clipping():
    """Norm of (3, 4) is 5: to norm 1 everything is divided by 5 (+ 1e-6); below the limit nothing changes."""
    W = torch.zeros(2, requires_grad=True)
    W.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([W], 10.0) == 5.0 and W.grad.tolist() == [3.0, 4.0]
    assert clip_gradients(iter([W]), 1.0) == 5.0
    assert torch.allclose(W.grad, torch.tensor([0.6, 0.8]), atol=1e-6)


def test_clipping_zero_or_no_gradients_works_and_nan_is_refused():
    W = torch.zeros(2, requires_grad=True)
    assert clip_gradients([W], 1.0) == 0.0
    W.grad = torch.zeros(2)
    assert clip_gradients([W], 1.0) == 0.0 and W.grad.tolist() == [0, 0]
    W.grad = torch.tensor([1.0, float("nan")])
    with pytest.raises(FloatingPointError, match="nan"):
        clip_gradients([W], 1.0)
    assert W.grad[0] == 1.0
    with pytest.raises(ValueError, match="max_norm must be > 0"):
        clip_gradients([W], 0.0)


def test_clipping_refuses_a_single_tensor(as_a_user):
    with pytest.raises(TypeError, match="one tensor"):
        clip_gradients(torch.zeros(2), 1.0)
