"""Borrowed gradients: course_lib/quantization/fake_quant.py and lsq.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.quantization import (
    fake_quantize,
    integer_range,
    lsq_gradient_scale,
    lsq_initial_scale,
    lsq_quantize,
)

seeds = st.integers(0, 2**31 - 1)
bits = st.integers(2, 8)
signs = st.booleans()


def drawn(seed, shape=(4, 6), dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_gradient(f, X, G):
    """f(X) and the gradient that arrives at X when G comes from above."""
    X = X.clone().requires_grad_()
    Y = f(X)
    (Y * G).sum().backward()
    return Y.detach(), X.grad


@given(seeds, bits, signs, st.integers(-4, 1))
def test_values_and_gradients_equal_torchs(seed, n_bits, signed, exponent):
    """A power of two as step: torch's product with 1/s is then our quotient, so both must agree everywhere."""
    X, G, s = drawn(seed), drawn(seed + 1), 2.0**exponent
    q_min, q_max = integer_range(n_bits, signed)
    z = (q_min + q_max) // 2
    ours = with_gradient(lambda x: fake_quantize(x, s, z, n_bits, signed), X, G)
    theirs = with_gradient(lambda x: torch.fake_quantize_per_tensor_affine(x, s, z, q_min, q_max), X, G)
    assert ours[0].equal(theirs[0]) and ours[1].equal(theirs[1])


@given(seeds, bits)
def test_a_scale_a_row_equals_torchs_per_channel(seed, n_bits):
    X, G = drawn(seed), drawn(seed + 1)
    s, z = 2.0 ** torch.tensor([-3.0, -2, -1, 0]), torch.tensor([0, 1, -1, 0], dtype=torch.int32)
    ours = with_gradient(lambda x: fake_quantize(x, s[:, None], z[:, None], n_bits), X, G)
    theirs = with_gradient(lambda x: torch.fake_quantize_per_channel_affine(x, s, z, 0, *integer_range(n_bits)), X, G)
    assert ours[0].equal(theirs[0]) and ours[1].equal(theirs[1])


def test_straight_through_hand_example():
    """Two bits, s = 1: codes -2..1. Inside means the *rounded* code fits: 1.4 passes its gradient, 1.6 does not."""
    X = torch.tensor([-3.0, -2.4, 0.3, 1.4, 1.6])
    Y, G = with_gradient(lambda x: fake_quantize(x, 1.0, 0, 2), X, torch.full((5,), 7.0))
    assert Y.tolist() == [-2, -2, 0, 1, 1] and G.tolist() == [0, 7, 7, 7, 0]


def test_gradcheck_must_refuse_the_estimator():
    """It is not the derivative: finite differences see steps, flat between the ties."""
    X = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x: fake_quantize(x, 1.0, 0, 4), X)


def lsq_spelled_out(V, s, n_bits, signed, G):
    """Equations (1) to (4), one value at a time."""
    q_min, q_max = integer_range(n_bits, signed)
    values, to_v, to_s = [], [], 0.0
    for v, g in zip(V.flatten().tolist(), G.flatten().tolist()):
        steps = v / s
        if steps <= q_min:
            code, slope, passes = q_min, q_min, 0.0
        elif steps >= q_max:
            code, slope, passes = q_max, q_max, 0.0
        else:
            code, slope, passes = round(steps), round(steps) - steps, 1.0
        values.append(code * s)
        to_v.append(g * passes)
        to_s += g * slope
    return values, to_v, to_s / math.sqrt(V.numel() * q_max)


@given(seeds, st.integers(2, 5), signs, st.floats(0.05, 2))
def test_lsq_is_the_paper_spelled_out(seed, n_bits, signed, s):
    V, G = drawn(seed, dtype=torch.float64), drawn(seed + 1, dtype=torch.float64)
    scale = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    values, to_v = with_gradient(lambda v: lsq_quantize(v, scale, n_bits, signed), V, G)
    expected = lsq_spelled_out(V, s, n_bits, signed, G)
    assert values.flatten().tolist() == expected[0] and to_v.flatten().tolist() == expected[1]
    assert float(scale.grad) == pytest.approx(expected[2], rel=1e-9, abs=1e-12)


def test_lsq_hand_example():
    """Two bits, s = 1, v = -3, 0.4, 0.6, 2: slopes -2, -0.4, 0.4, 1; their sum -1, times g = 1/sqrt(4 * 1)."""
    s = torch.tensor(1.0, requires_grad=True)
    V = torch.tensor([-3.0, 0.4, 0.6, 2.0])
    lsq_quantize(V, s, 2).sum().backward()
    assert float(s.grad) == pytest.approx(-0.5, abs=1e-6)


@given(seeds)
def test_lsq_with_a_scale_a_row_is_lsq_of_each_row(seed):
    """Also the N in g: the number of values that share a step."""
    V, G = drawn(seed), drawn(seed + 1)
    rows = torch.tensor([[0.1], [0.2], [0.5], [1.0]], requires_grad=True)
    lsq_quantize(V, rows, 3).mul(G).sum().backward()
    for i in range(4):
        s = rows.detach()[i, 0].clone().requires_grad_()
        lsq_quantize(V[i], s, 3).mul(G[i]).sum().backward()
        assert float(s.grad) == pytest.approx(float(rows.grad[i]), rel=1e-5, abs=1e-7)


@given(seeds, st.floats(0.2, 5))
def test_saturated_values_pull_the_step_by_the_true_derivative(seed, s):
    """Where all values saturate, v_hat = s q_max is smooth in s, so finite differences must agree (times g)."""
    V = 100 + drawn(seed, dtype=torch.float64).abs()
    scale = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    lsq_quantize(V, scale, 3).square().sum().backward()
    h = 1e-6
    up, down = (float(lsq_quantize(V, torch.tensor(s + d, dtype=torch.float64), 3).square().sum()) for d in (h, -h))
    assert float(scale.grad) == pytest.approx(lsq_gradient_scale(V.numel(), 3) * (up - down) / (2 * h), rel=1e-6)


def test_learning_the_step_reduces_the_error():
    """Descent on the mean squared error from the initial step: the learned grid beats it, and beats the full range."""
    V = drawn(0, (2000,))
    s = lsq_initial_scale(V, 3).clone().requires_grad_()

    def error(step):
        return (lsq_quantize(V, step, 3) - V).square().mean()

    at_start, full_range = float(error(s.detach())), float(error(V.abs().max() / 3))
    optimizer = torch.optim.SGD([s], lr=20.0)
    for _ in range(100):
        optimizer.zero_grad()
        error(s).backward()
        optimizer.step()
    assert float(error(s.detach())) < 0.9 * min(at_start, full_range)


def test_initial_scale_and_gradient_scale_hand_examples():
    assert float(lsq_initial_scale(torch.tensor([1.0, -3.0]), 2)) == 4.0  # 2 * 2 / sqrt(1)
    assert float(lsq_initial_scale(torch.tensor([1.0, -3.0]), 3)) == pytest.approx(4 / math.sqrt(3))
    assert float(lsq_initial_scale(torch.tensor([1.0, 3.0]), 2, signed=False)) == pytest.approx(4 / math.sqrt(3))
    assert lsq_gradient_scale(25, 4) == 0.1 and lsq_gradient_scale(1, 1) == 1.0


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_zero_constant_and_single_element_work(value):
    V = torch.full((1,), value)
    s = lsq_initial_scale(V, 4).requires_grad_()
    lsq_quantize(V, s, 4).sum().backward()
    assert float(s.detach()) > 0 and math.isfinite(float(s.grad))
    assert math.isfinite(float(fake_quantize(V, 1.0)))


def test_input_is_not_changed_and_twice_is_the_same():
    X = drawn(0)
    before = X.clone()
    s = torch.tensor(0.1)
    assert fake_quantize(X, s).equal(fake_quantize(X, s)) and lsq_quantize(X, s).equal(lsq_quantize(X, s))
    assert X.equal(before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fake_quantize(torch.empty(0), 1.0), "empty"),
        (lambda: fake_quantize(torch.ones(2), 0.0), "> 0"),
        (lambda: fake_quantize(torch.ones(2, 3), torch.ones(2)), "does not broadcast"),
        (lambda: fake_quantize(torch.ones(2), 1.0, 0, 1), "n_bits"),
        (lambda: lsq_quantize(torch.tensor([math.nan]), torch.tensor(1.0)), "NaN"),
        (lambda: lsq_quantize(torch.ones(2), torch.tensor(-1.0)), "> 0"),
        (lambda: lsq_quantize(torch.ones(2, 3), torch.ones(2)), "does not broadcast"),
        (lambda: lsq_initial_scale(torch.empty(0)), "empty"),
        (lambda: lsq_gradient_scale(0, 1), ">= 1"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
