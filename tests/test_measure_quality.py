"""Accuracy with its interval, calibration error, agreement and flips: against scipy, loops and hand counts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from course_lib.measure import accuracy, accuracy_interval, agreement, calibration_error, flips, n_errors, predict

seeds = st.integers(0, 2**31 - 1)


def test_predict_is_the_model_in_eval_mode_whatever_the_batches_and_puts_modes_back():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()
    X = torch.randn(23, 4)
    outputs = predict(model, X, batch_size=5)
    assert model.training and not model[1].training and not outputs.requires_grad
    assert torch.allclose(outputs, model.eval()(X).detach(), atol=1e-6)
    assert predict(model, X, batch_size=5).equal(outputs)


def test_modes_are_put_back_when_the_model_fails():
    model = nn.Linear(4, 2)
    with pytest.raises(ValueError, match=r"fails on X of shape \(2, 5\)"):
        predict(model, torch.zeros(2, 5))
    assert model.training


def test_errors_and_accuracy_by_hand():
    X = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 2])
    assert n_errors(nn.Identity(), X, labels) == 2 and accuracy(nn.Identity(), X, labels) == 0.5
    assert accuracy(nn.Identity(), X[:1], labels[:1]) == 1.0


@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_interval_is_scipys_wilson(n, share, confidence):
    k = round(n * share)
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    ours = accuracy_interval(k, n, confidence)
    assert abs(ours[0] - theirs.low) < 1e-12 and abs(ours[1] - theirs.high) < 1e-12
    assert 0 <= ours[0] <= k / n <= ours[1] <= 1 and ours[0] < ours[1]


def test_hand_example_of_the_interval():
    """98 % on 10,000: 97.7 % to 98.3 %. No error in 10: the interval is not a point (the simple formula says 100 % +- 0)."""
    assert accuracy_interval(9800, 10_000) == pytest.approx((0.97706, 0.98257), abs=1e-5)
    low, high = accuracy_interval(10, 10)
    z2 = 1.959964**2
    assert high == 1.0 and abs(low - 10 / (10 + z2)) < 1e-6 and accuracy_interval(0, 10)[0] == 0.0


def spelled_out_ece(P, labels, n_bins):
    """Guo et al., eq. (3), bin by bin in Python floats."""
    total = 0.0
    for b in range(1, n_bins + 1):
        inside = []
        for row, y in zip(P.tolist(), labels.tolist()):
            c = max(row)
            if (b - 1) / n_bins < c <= b / n_bins:
                inside.append((float(row.index(c) == y), c))
        if inside:
            right, sure = (math.fsum(v) / len(inside) for v in zip(*inside))
            total += len(inside) / len(labels) * abs(right - sure)
    return total


@given(seeds, st.integers(1, 40), st.integers(2, 6), st.integers(1, 20))
def test_calibration_error_is_its_formula_spelled_out(seed, n, n_classes, n_bins):
    """Random confidences do not fall on the border of a bin, so both sides agree on the bins and only roundings differ."""
    generator = torch.Generator().manual_seed(seed)
    P = (3 * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)).softmax(dim=1)
    labels = torch.randint(n_classes, (n,), generator=generator)
    assert abs(calibration_error(P, labels, n_bins) - spelled_out_ece(P, labels, n_bins)) < 1e-12


def test_hand_examples_of_calibration():
    """Sure and right: 0. Sure and wrong: 1. Four answers at 75 %, three right: 0."""
    sure = torch.tensor([[1.0, 0.0]])
    assert calibration_error(sure, torch.tensor([0])) == 0.0 and calibration_error(sure, torch.tensor([1])) == 1.0
    assert calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])) == 0.0


def test_a_border_belongs_to_the_bin_below():
    """(1/2, 1] and (0, 1/2]: answers at exactly 0.5 and at 0.75 share no bin, so their errors cannot cancel."""
    P = torch.tensor([[0.5, 0.5], [0.75, 0.25]])
    assert calibration_error(P, torch.tensor([0, 1]), n_bins=2) == (0.5 + 0.75) / 2


@given(seeds, st.integers(1, 50))
def test_agreement_and_flips_add_up(seed, n):
    """Accuracy changes by (mended - broken) / n; models that agree everywhere flip nothing."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, 3, generator=generator) for _ in range(2))
    labels = torch.randint(3, (n,), generator=generator)
    changed = flips(a, b, labels)
    right_a, right_b = (int((u.argmax(1) == labels).sum()) for u in (a, b))
    assert right_b - right_a == changed.mended - changed.broken and changed.n == n
    assert flips(b, a, labels) == type(changed)(changed.mended, changed.broken, n)
    same = sum(int(u) == int(v) for u, v in zip(a.argmax(1), b.argmax(1)))
    assert agreement(a, b) == agreement(b, a) == same / n and agreement(a, a) == 1.0
    assert changed.broken + changed.mended <= n - same


def test_hand_example_of_flips():
    """Right/right, right/wrong, wrong/right, wrong/wrong in two ways: one broken, one mended, agreement 1/4."""
    a = torch.eye(3)[[0, 1, 2, 2]]
    b = torch.eye(3)[[0, 2, 0, 1]]
    changed = flips(a, b, torch.tensor([0, 1, 0, 0]))
    assert (changed.broken, changed.mended, changed.n) == (1, 1, 4) and agreement(a, b) == 0.25


@pytest.mark.parametrize(
    "call, error, says",
    [
        (lambda: predict(torch.relu, torch.zeros(1, 1)), TypeError, r"nn\.Module"),
        (lambda: predict(nn.Identity(), torch.zeros(0, 1)), ValueError, "X is empty"),
        (lambda: predict(nn.Identity(), torch.zeros(1, 1), batch_size=0), ValueError, "batch_size"),
        (lambda: n_errors(nn.Identity(), torch.zeros(2, 2), torch.zeros(3, dtype=torch.int64)), ValueError, "must be 2 whole"),
        (
            lambda: n_errors(nn.Flatten(0), torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64)),
            ValueError,
            "output must have 2",
        ),
        (lambda: accuracy(nn.Identity(), torch.zeros(2, 2), torch.zeros(2)), ValueError, "whole numbers"),
        (lambda: accuracy(nn.Identity(), torch.zeros(2, 2), torch.zeros(2, dtype=torch.bool)), ValueError, "bool"),
        (lambda: accuracy(nn.Identity(), torch.zeros(3, 2), torch.tensor([99] * 3)), ValueError, "0 ... 1 .*got 99 ... 99"),
        (lambda: n_errors(nn.Identity(), torch.zeros(1, 2), torch.tensor([-1])), ValueError, "got -1"),
        (
            lambda: calibration_error(torch.tensor([[0.5, 0.5]]), torch.tensor([2])),
            ValueError,
            "calibration_error: labels must lie",
        ),
        (lambda: flips(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([2])), ValueError, "flips: labels must lie"),
        (lambda: accuracy_interval(3, 2), ValueError, "n_correct <= n"),
        (lambda: accuracy_interval(-1, 2), ValueError, "n_correct"),
        (lambda: accuracy_interval(0, 0), ValueError, "n must be"),
        (lambda: accuracy_interval(1, 2, confidence=95), ValueError, "did you mean 0.95"),
        (lambda: accuracy_interval(1, 2, confidence=1.0), ValueError, "confidence < 1"),
        (lambda: calibration_error(torch.tensor([[2.0, 1.0]]), torch.tensor([0])), ValueError, "softmax first"),
        (lambda: calibration_error(torch.tensor([[1.5, -0.5]]), torch.tensor([0])), ValueError, "softmax first"),
        (lambda: calibration_error(torch.ones(1, 1), torch.tensor([0]), n_bins=0), ValueError, "n_bins"),
        (lambda: agreement(torch.zeros(2, 3), torch.zeros(3, 3)), ValueError, "shape"),
        (lambda: agreement(torch.full((1, 2), math.nan), torch.zeros(1, 2)), ValueError, "2 NaN"),
        (lambda: flips(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(1, dtype=torch.int64)), ValueError, "must be 2"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says, as_a_user):
    with pytest.raises(error, match=says):
        call()
