"""Ensembles of teachers: two means, each the best compromise for one direction of the KL divergence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.distillation import ensemble_logits, hinton_loss, soft_targets


def draw(seed, K=3, B=4, C=5, scale=3.0):
    g = torch.Generator().manual_seed(seed)
    V = scale * torch.randn(K, B, C, generator=g, dtype=torch.float64)
    return V, torch.rand(K, generator=g, dtype=torch.float64) + 0.1


ensembles = st.integers(0, 2**31 - 1).map(draw)
temperatures = st.floats(0.5, 20)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}  # a dozen double roundings of numbers near 1


def probabilities(row, T):
    e = [math.exp(x / T) for x in row]
    return [x / math.fsum(e) for x in e]


@given(ensembles, temperatures)
def test_mean_of_probabilities_is_the_formula_spelled_out(ensemble, T):
    V, weights = ensemble
    a = [w / math.fsum(weights.tolist()) for w in weights.tolist()]
    expected = [[math.fsum(a[k] * probabilities(V[k, b].tolist(), T)[c] for k in range(3)) for c in range(5)] for b in range(4)]
    got = soft_targets(ensemble_logits(V, T, "probabilities", weights), T)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), **CLOSE)


@given(ensembles, temperatures)
def test_mean_of_logits_is_the_normalized_geometric_mean(ensemble, T):
    V, weights = ensemble
    a = weights / weights.sum()
    product = torch.stack([soft_targets(V[k], T) ** a[k] for k in range(3)]).prod(0)
    got = soft_targets(ensemble_logits(V, T, "logits", weights), T)
    torch.testing.assert_close(got, product / product.sum(1, keepdim=True), **CLOSE)


@given(ensembles, st.integers(0, 2**31 - 1))
def test_each_mean_is_the_best_compromise_for_one_direction(ensemble, seed):
    """Eq. (3): no other distribution has a smaller weighted sum of KL(p_k || p), or of KL(p || p_k)."""
    V, weights = ensemble
    log_p = torch.stack([soft_targets(v).log() for v in V])
    a = (weights / weights.sum())[:, None]
    rival = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def to(log_q):  # sum_k a_k KL(p_k || q)
        return (a * (log_p.exp() * (log_p - log_q)).sum(2)).sum(0)

    def away(log_q):  # sum_k a_k KL(q || p_k)
        return (a * (log_q.exp() * (log_q - log_p)).sum(2)).sum(0)

    arithmetic = soft_targets(ensemble_logits(V, 1, "probabilities", weights)).log()
    geometric = soft_targets(ensemble_logits(V, 1, "logits", weights)).log()
    for other in (rival.log_softmax(1), (arithmetic + 0.01 * rival).log_softmax(1), geometric):
        assert (to(arithmetic) <= to(other) + 1e-12).all()
    for other in (rival.log_softmax(1), (geometric + 0.01 * rival).log_softmax(1), arithmetic):
        assert (away(geometric) <= away(other) + 1e-12).all()


@given(ensembles, temperatures)
def test_student_of_the_mean_gets_the_average_of_the_single_gradients(ensemble, T):
    """The forward gradient (p_s - p_t)/T is linear in the teacher's distribution."""
    V, weights = ensemble
    u = torch.linspace(-2, 2, 20, dtype=torch.float64).reshape(4, 5).requires_grad_()
    (together,) = torch.autograd.grad(hinton_loss(u, ensemble_logits(V, T, "probabilities", weights), None, 1, T), u)
    singles = sum(a * torch.autograd.grad(hinton_loss(u, v, None, 1, T), u)[0] for a, v in zip(weights, V)) / weights.sum()
    torch.testing.assert_close(together, singles, rtol=1e-9, atol=1e-10)


def test_hand_example_one_teacher_can_keep_a_class_or_veto_it():
    """Teachers (0.9, 0.1) and (0.1, 0.9) agree on a coin either way; (0.99, 0.01) and (0.5, 0.5) do not."""
    V = torch.tensor([[[0.99, 0.01]], [[0.5, 0.5]]]).log()
    assert soft_targets(ensemble_logits(V))[0].tolist() == pytest.approx([0.745, 0.255], rel=1e-5)
    odds = math.sqrt(99 * 1)
    got = soft_targets(ensemble_logits(V, mean="logits"))[0].tolist()
    assert got == pytest.approx([odds / (1 + odds), 1 / (1 + odds)], rel=1e-5)


def test_a_weight_of_zero_silences_a_teacher_and_one_teacher_is_itself():
    V, _ = draw(1)
    for mean in ("probabilities", "logits"):
        one = soft_targets(ensemble_logits(V, 2.0, mean, torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)), 2.0)
        torch.testing.assert_close(one, soft_targets(V[1], 2.0), **CLOSE)
        torch.testing.assert_close(soft_targets(ensemble_logits(V[:1], 3, mean), 3), soft_targets(V[0], 3), **CLOSE)


def test_input_is_not_changed_twice_is_the_same_and_no_gradient_flows_back():
    V, weights = draw(2)
    before = V.clone(), weights.clone()
    V = V.requires_grad_()
    first = ensemble_logits(V, 2.0, weights=weights)
    assert first.equal(ensemble_logits(V, 2.0, weights=weights)) and not first.requires_grad
    assert V.detach().equal(before[0]) and weights.equal(before[1])


def test_equal_logits_and_one_of_everything_work():
    assert soft_targets(ensemble_logits(torch.zeros(2, 1, 4)))[0].tolist() == pytest.approx([0.25] * 4)
    assert ensemble_logits(torch.zeros(1, 1, 1)).item() == 0
    extreme = torch.tensor([[[1e4, -1e4]], [[-1e4, 1e4]]])
    assert soft_targets(ensemble_logits(extreme))[0].tolist() == [0.5, 0.5]


V = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ensemble_logits(V[0]), "must have 3 dimension"),
        (lambda: ensemble_logits(V, 0), "T must be > 0"),
        (lambda: ensemble_logits(V, 1, "median"), "unknown mean 'median'; known: 'probabilities', 'logits'"),
        (lambda: ensemble_logits(V, weights=torch.ones(3)), "3 weights for 2 teachers"),
        (lambda: ensemble_logits(V, weights=torch.tensor([1.0, -1.0])), ">= 0 and not all 0"),
        (lambda: ensemble_logits(V, weights=torch.zeros(2)), ">= 0 and not all 0"),
        (lambda: ensemble_logits(V * float("nan")), "24 NaN"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
