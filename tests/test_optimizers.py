"""SGD, momentum, Nesterov, Adam, AdamW: equal to torch.optim step by step, and to their formulas worked by hand.

Tolerance: both sides do the same few products in another order, so a step differs by a few roundings (2^-52 in float64) of
numbers of size lr |step|; the gradients are given, not computed from the weights, so nothing amplifies a difference. Over n
steps that is below n * 100 * 2^-52 of the largest number met. The same bound serves all tests here.
"""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.optimizers import SGD, Adam, AdamW, contraction

N_STEPS = 12
EPS = 2.0**-52
seeds = st.integers(0, 2**31 - 1)
rates = st.floats(1e-4, 1.0)
decays = st.sampled_from([0.0, 1e-4, 0.01, 0.3])
beta1s, beta2s = st.floats(0.0, 0.999), st.floats(0.9, 0.999)


def steps_of(make, seed, changing_lr=False):
    """Weights after each of N_STEPS, for given gradients; the second tensor has no gradient in every third step."""
    generator = torch.Generator().manual_seed(seed)
    W = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in ((4, 3), (5,))]
    optimizer = make(W)
    seen = []
    for step in range(N_STEPS):
        for i, w in enumerate(W):
            G = torch.randn(w.shape, generator=generator, dtype=torch.float64)
            w.grad = None if i == 1 and step % 3 == 0 else G
        if changing_lr:
            for group in getattr(optimizer, "param_groups", []):
                group["lr"] = 0.1 / (step + 1)
            optimizer.lr = 0.1 / (step + 1)
        optimizer.step()
        seen.append([w.detach().clone() for w in W])
    return seen


def assert_equal_steps(ours, theirs):
    for step, (a, b) in enumerate(zip(ours, theirs)):
        for w, v in zip(a, b):
            largest = max(1.0, float(v.abs().max()))
            assert float((w - v).abs().max()) <= 100 * N_STEPS * EPS * largest, f"step {step}"


def spelled_out_adam(w, gradients, lr, beta1, beta2, eps, decay, decoupled):
    """Kingma & Ba's algorithm 1 for one number, in Python floats."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            w = w - lr * decay * w
        else:
            g = g + decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = w - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return w


@pytest.mark.parametrize("kind, decoupled", [(Adam, False), (AdamW, True)])
def test_adam_and_adamw_are_their_algorithms_spelled_out(kind, decoupled):
    gradients = [0.3, -2.0, 1e-3, 5.0, 0.0, -0.7]
    W = torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    optimizer = kind([W], lr=0.05, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1)
    for g in gradients:
        W.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    assert abs(W.item() - spelled_out_adam(0.8, gradients, 0.05, 0.8, 0.95, 1e-6, 0.1, decoupled)) < 600 * EPS


def test_hand_example_of_momentum_and_nesterov():
    """G = 1 twice, momentum 1/2, lr 1: V = 1, 1.5. Plain steps 1 + 1.5; Nesterov (1 + 0.5) + (1 + 0.75)."""
    for nesterov, expected in ((False, -2.5), (True, -3.25)):
        W = torch.zeros(1, requires_grad=True)
        optimizer = SGD([W], lr=1.0, momentum=0.5, nesterov=nesterov)
        for _ in range(2):
            W.grad = torch.ones(1)
            optimizer.step()
        assert W.item() == expected


@given(seeds, rates, st.floats(0.01, 0.99), st.booleans(), decays)
def test_sgd_with_momentum_is_torchs_step_by_step(seed, lr, momentum, nesterov, decay):
    settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": decay}
    assert_equal_steps(steps_of(lambda W: SGD(W, **settings), seed), steps_of(lambda W: torch.optim.SGD(W, **settings), seed))


@given(seeds, rates, decays)
def test_plain_sgd_is_torchs_and_is_one_subtraction(seed, lr, decay):
    ours = steps_of(lambda W: SGD(W, lr=lr, weight_decay=decay), seed)
    assert_equal_steps(ours, steps_of(lambda W: torch.optim.SGD(W, lr=lr, weight_decay=decay), seed))


@given(seeds, rates, beta1s, beta2s, st.floats(1e-10, 1e-2), decays)
def test_adam_is_torchs_step_by_step(seed, lr, beta1, beta2, eps, decay):
    """With beta2 >= 0.9, as in use, v_hat remembers all 12 steps and is never tiny beside m_hat.

    A small beta2 forgets v faster than m. Then one small gradient divides a large m_hat, and the division magnifies a last-bit
    difference (which L2 decay feeds back through W) without bound: beta2 = 0 gave 1.3 times the tolerance.
    """
    theirs = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    ours = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": decay}
    assert_equal_steps(steps_of(lambda W: Adam(W, **ours), seed), steps_of(lambda W: torch.optim.Adam(W, **theirs), seed))


@given(seeds, rates, beta1s, beta2s, decays)
def test_adamw_is_torchs_step_by_step(seed, lr, beta1, beta2, decay):
    theirs = {"lr": lr, "betas": (beta1, beta2), "weight_decay": decay}
    ours = {"lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": decay}
    assert_equal_steps(steps_of(lambda W: AdamW(W, **ours), seed), steps_of(lambda W: torch.optim.AdamW(W, **theirs), seed))


@pytest.mark.parametrize("ours, theirs", [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_defaults_are_torchs(ours, theirs):
    assert_equal_steps(steps_of(ours, 3), steps_of(theirs, 3))


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_a_changing_rate_acts_as_torchs_does(momentum, nesterov):
    """lr multiplies the whole sum of old gradients; in Sutskever's own form old steps would keep their old rate."""
    settings = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov}
    ours = steps_of(lambda W: SGD(W, **settings), 5, changing_lr=True)
    assert_equal_steps(ours, steps_of(lambda W: torch.optim.SGD(W, **settings), 5, changing_lr=True))


@given(seeds, st.floats(1e-4, 1.0), st.sampled_from([1e-3, 1.0, 1e6]))
def test_adams_first_step_is_lr_in_every_coordinate_whatever_the_size_of_the_gradient(seed, lr, size):
    """m_hat = G and v_hat = G^2 at t = 1, so the step is lr G / (|G| + eps): lr up to eps / |G|."""
    W = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    G = size * (0.1 + torch.rand(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    W.grad = G * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(10)
    Adam([W], lr=lr).step()
    relative = (W.detach().abs() / lr - 1).abs()
    assert float(relative.max()) <= 1e-8 / (0.1 * size) + 100 * EPS
    assert W.detach().sign().equal(-W.grad.sign())


def test_decoupled_decay_alone_shrinks_by_the_same_share_each_step():
    """With zero gradients Adam's step is 0 / eps = 0, and AdamW leaves (1 - lr decay)^n W: powers of two are exact."""
    W = torch.full((3, 1), 8.0, requires_grad=True)
    optimizer = AdamW([W], lr=0.5, weight_decay=1.0)
    for _ in range(3):
        W.grad = torch.zeros(3, 1)
        optimizer.step()
    assert W.detach().tolist() == [[1.0]] * 3


def test_a_parameter_without_a_gradient_is_skipped_whole_decay_and_step_count_included():
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = AdamW([a, b], lr=0.1, weight_decay=0.5)
    a.grad = torch.ones(2)
    optimizer.step()
    assert b.detach().equal(torch.ones(2)) and optimizer.state[1] == {} and optimizer.state[0]["step"] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("make", [lambda W: SGD(W, lr=0.1, momentum=0.9), Adam, AdamW])
def test_a_nan_or_infinite_gradient_is_refused_and_nothing_moves(make, bad):
    """torch.optim would write NaN into the weights; here the first parameter, whose gradient is fine, must not move either."""
    a, b = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = make([a, b])
    a.grad, b.grad = torch.ones(3), torch.tensor([0.0, bad, 1.0])
    with pytest.raises(FloatingPointError, match="1 of 3 gradients of parameter 1"):
        optimizer.step()
    assert a.detach().equal(torch.ones(3)) and b.detach().equal(torch.ones(3)) and optimizer.state == [{}, {}]


def test_parametrized_modules_train_through_their_originals():
    class Double(nn.Module):
        def forward(self, w):
            return 2 * w

    ours = nn.Linear(3, 2).double()
    nn.utils.parametrize.register_parametrization(ours, "weight", Double())
    theirs = copy.deepcopy(ours)
    x = torch.randn(5, 3, dtype=torch.float64)
    for layer, optimizer in ((ours, Adam(ours.parameters())), (theirs, torch.optim.Adam(theirs.parameters()))):
        for _ in range(3):
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            optimizer.step()
    assert torch.allclose(ours.weight, theirs.weight, rtol=0, atol=1000 * EPS)


def test_a_constant_tensor_a_zero_gradient_and_a_single_number_work():
    W = torch.zeros((), requires_grad=True)
    for optimizer in (SGD([W], lr=1.0), Adam([W]), AdamW([W])):
        W.grad = torch.zeros(())
        optimizer.step()
        assert W.item() == 0.0


def test_zero_grad_forgets():
    W = torch.ones(2, requires_grad=True)
    W.grad = torch.ones(2)
    SGD([W], lr=1.0).zero_grad()
    assert W.grad is None


def test_gradients_are_not_changed_by_a_step():
    for make in (lambda W: SGD(W, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), lambda W: Adam(W, weight_decay=0.1)):
        W = torch.ones(4, requires_grad=True)
        W.grad = torch.arange(4.0)
        make([W]).step()
        assert W.grad.equal(torch.arange(4.0))


@pytest.mark.parametrize("make", [lambda W: SGD(W, lr=0.1, momentum=0.9), lambda W: Adam(W, lr=0.1)])
def test_state_dict_is_a_copy_and_restores_the_run(make):
    """Save after step 2, go on to 4, restore into a fresh optimizer, go on again: the same weights, bit for bit."""
    W = torch.ones(3, requires_grad=True)
    optimizer = make([W])

    def go(optimizer, n):
        for k in range(n):
            W.grad = torch.tensor([1.0, -2.0, 0.5]) * (k + 1)
            optimizer.step()
        return W.detach().clone()

    at_2, saved = go(optimizer, 2), optimizer.state_dict()
    at_4 = go(optimizer, 2)
    with torch.no_grad():
        W.copy_(at_2)
    fresh = make([W])
    fresh.load_state_dict(saved)
    assert go(fresh, 2).equal(at_4)
    with torch.no_grad():
        W.copy_(at_2)
    fresh.load_state_dict(saved)
    assert go(fresh, 2).equal(at_4)  # the saved state was not used up by the run above


def test_a_state_of_another_kind_or_shape_is_refused():
    W = torch.ones(3, requires_grad=True)
    W.grad = torch.ones(3)
    adam = Adam([W])
    adam.step()
    with pytest.raises(ValueError, match="cannot go on from a Adam"):
        SGD([W], lr=0.1).load_state_dict(adam.state_dict())
    with pytest.raises(ValueError, match="other shapes"):
        Adam([torch.ones(4, requires_grad=True)]).load_state_dict(adam.state_dict())


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda W: SGD([], lr=0.1), ValueError, "empty"),
        (lambda W: SGD(W, lr=0.1), TypeError, "one tensor"),
        (lambda W: SGD([1.0], lr=0.1), TypeError, "must be a torch.Tensor"),
        (lambda W: SGD([W, W], lr=0.1), ValueError, "twice"),
        (lambda W: SGD([W * 2], lr=0.1), ValueError, "not a leaf"),
        (lambda W: SGD([W], lr=-1.0), ValueError, "lr must be >= 0"),
        (lambda W: SGD([W], lr=float("nan")), ValueError, "lr must be a finite"),
        (lambda W: SGD([W], lr=0.1, momentum=1.0), ValueError, "momentum must be below 1"),
        (lambda W: SGD([W], lr=0.1, nesterov=True), ValueError, "momentum > 0"),
        (lambda W: Adam([W], beta1=1.0), ValueError, "beta1 must be below 1"),
        (lambda W: AdamW([W], beta2=1.5), ValueError, "AdamW: beta2 must be below 1"),
        (lambda W: Adam([W], eps=0.0), ValueError, "eps must be > 0"),
        (lambda W: AdamW([W], weight_decay=-0.1), ValueError, "weight_decay must be >= 0"),
    ],
)
def test_impossible_settings_are_refused_in_words(make, error, says, as_a_user):
    with pytest.raises(error, match=says):
        make(torch.ones(2, requires_grad=True))


def test_a_rate_that_became_nan_is_refused_at_the_step():
    W = torch.ones(2, requires_grad=True)
    W.grad = torch.ones(2)
    optimizer = SGD([W], lr=0.1)
    optimizer.lr = float("nan")
    with pytest.raises(ValueError, match="lr must be a finite"):
        optimizer.step()


def step_matrix(lr, a, momentum, nesterov):
    """Column by column: one step of SGD from (w, V) = (1, 0) and from (0, 1), on the parabola a w^2 / 2."""
    columns = []
    for w, V in ((1.0, 0.0), (0.0, 1.0)):
        W = torch.tensor([w], dtype=torch.float64, requires_grad=True)
        optimizer = SGD([W], lr=lr, momentum=momentum, nesterov=nesterov)
        optimizer.state[0]["V"] = torch.tensor([V], dtype=torch.float64)
        W.grad = a * W.detach()
        optimizer.step()
        columns.append(torch.cat([W.detach(), optimizer.state[0]["V"]]))
    return torch.stack(columns, dim=1)


@given(st.floats(1e-3, 5.0), st.floats(1e-3, 5.0), st.floats(0.01, 0.99), st.booleans())
def test_the_contraction_is_the_largest_eigenvalue_of_a_step(lr, a, momentum, nesterov):
    """Near a double eigenvalue the root of the discriminant magnifies roundings to sqrt(2^-52): hence 1e-6."""
    expected = torch.linalg.eigvals(step_matrix(lr, a, momentum, nesterov)).abs().max().item()
    assert contraction(lr, a, momentum, nesterov) == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_hand_examples_of_the_contraction():
    """|1 - lr a|; 1 at lr = 2 / a; with momentum, 1 at 2 (1 + momentum) / a and sqrt(momentum) in between."""
    assert contraction(0.25, 1.0) == 0.75 and contraction(0.5, 4.0) == 1.0 and contraction(1.0, 1.0) == 0.0
    assert contraction(0.75, 4.0, momentum=0.5) == 1.0 and contraction(0.3, 4.0, momentum=0.25) == 0.5
    assert contraction(0.5, 0.0) == 1.0  # a flat direction: nothing moves


@pytest.mark.parametrize("bad, says", [((-1.0, 1.0), "lr"), ((1.0, -1.0), "curvature"), ((1.0, 1.0, 1.0), "below 1")])
def test_an_impossible_contraction_is_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        contraction(*bad)
