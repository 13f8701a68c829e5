"""A batch normalization folded into the layer before it: course_lib/quantization/batch_norm.py."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from course_lib.quantization import attach_fake_quant, fold_batch_norm, fold_batch_norms


def settled(norm, seed=0):
    """A normalization that has seen data: no statistic and no parameter at its starting value."""
    g = torch.Generator().manual_seed(seed)
    n = norm.num_features
    norm.running_mean.copy_(torch.randn(n, generator=g))
    norm.running_var.copy_(torch.rand(n, generator=g) + 0.1)
    if norm.affine:
        norm.weight.data.copy_(torch.randn(n, generator=g))
        norm.bias.data.copy_(torch.randn(n, generator=g))
    return norm.eval()


def network(bias=False):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1, bias=bias),
        settled(nn.BatchNorm2d(6), 1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=bias),
        settled(nn.BatchNorm2d(6), 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 5, bias=bias),
        settled(nn.BatchNorm1d(5, affine=False), 3),
    ).eval()


def test_one_row_by_hand():
    """a = 2 / sqrt(4) = 1: W' = W, b' = beta + 1 (b - mean) = 5 + (1 - 3); the second row has a = -1 / 0.5 = -2."""
    W, bias = torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.tensor([1.0, 0.5])
    gamma, beta, mean, var = (torch.tensor(v) for v in ([2.0, -1.0], [5.0, 0.0], [3.0, 0.25], [4.0, 0.25]))
    W_folded, b_folded = fold_batch_norm(W, bias, gamma, beta, mean, var, eps=0)
    assert W_folded.tolist() == [[1.0, 2.0], [-6.0, 8.0]] and b_folded.tolist() == [3.0, -0.5]


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_the_folded_layer_computes_the_formula_in_loops(n_out, n_in, seed):
    g = torch.Generator().manual_seed(seed)
    W, x = torch.randn(n_out, n_in, generator=g).double(), torch.randn(n_in, generator=g).double()
    bias, gamma, beta, mean = (torch.randn(n_out, generator=g).double() for _ in range(4))
    var = torch.rand(n_out, generator=g).double()
    W_folded, b_folded = fold_batch_norm(W, bias, gamma, beta, mean, var, 1e-3)
    for i in range(n_out):
        u = sum(float(W[i, j] * x[j]) for j in range(n_in)) + float(bias[i])
        y = float(gamma[i]) * (u - float(mean[i])) / (float(var[i]) + 1e-3) ** 0.5 + float(beta[i])
        # Terms up to about 3 * 7 / sqrt(1e-3), a few roundings of 2^-53 each.
        assert float(W_folded[i] @ x + b_folded[i]) == pytest.approx(y, abs=1e-10)


@pytest.mark.parametrize("bias", [False, True])
def test_the_network_computes_the_same_without_its_normalizations(bias):
    model = network(bias)
    folded, X = fold_batch_norms(model), torch.randn(20, 1, 8, 8)
    assert not any("BatchNorm" in type(layer).__name__ for layer in folded) and len(folded) == len(model) - 3
    assert folded.double()(X.double()).allclose(copy.deepcopy(model).double()(X.double()), rtol=1e-5, atol=1e-5)


def test_torch_folds_a_pair_in_the_same_way():
    model = network()
    folded = fold_batch_norms(model)
    for ours, theirs in (
        (folded[0], fuse_conv_bn_eval(model[0], model[1])),
        (folded[2], fuse_conv_bn_eval(model[3], model[4])),
    ):
        assert ours.weight.allclose(theirs.weight, rtol=1e-5) and ours.bias.allclose(theirs.bias, rtol=1e-5, atol=1e-6)
        assert (ours.stride, ours.padding, ours.groups) == (theirs.stride, theirs.padding, theirs.groups)
    linear, norm = nn.Linear(4, 3).eval(), settled(nn.BatchNorm1d(3))
    theirs, ours = fuse_linear_bn_eval(linear, norm), fold_batch_norms(nn.Sequential(linear, norm))[0]
    assert ours.weight.allclose(theirs.weight, rtol=1e-5) and ours.bias.allclose(theirs.bias, rtol=1e-5, atol=1e-6)


def test_the_given_network_stays_and_the_answer_is_the_same_each_time():
    model = network(True)
    before = copy.deepcopy(model.state_dict())
    a, b = fold_batch_norms(model), fold_batch_norms(model)
    with torch.no_grad():
        a[-1].weight.zero_()
    assert all(before[k].equal(v) for k, v in model.state_dict().items())
    assert b[-1].weight.abs().sum() > 0 and fold_batch_norms(model)[0].weight.equal(b[0].weight)


def test_a_variance_of_zero_is_held_by_eps():
    one = torch.ones(1)
    W, _ = fold_batch_norm(torch.ones(1, 1), None, one, one, one, torch.zeros(1), 0.25)
    assert W.item() == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fold_batch_norm(torch.ones(2, 2), None, *[torch.ones(3)] * 4), "3 rows"),
        (lambda: fold_batch_norm(torch.ones(2, 2), None, *[torch.ones(2)] * 3, -torch.ones(2)), "variance"),
        (lambda: fold_batch_norm(torch.ones(2, 2), None, *[torch.ones(2)] * 3, torch.zeros(2), 0.0), "variance"),
        (lambda: fold_batch_norm(torch.ones(2, 2), torch.ones(1), *[torch.ones(2)] * 4), "bias must have shape"),
        (lambda: fold_batch_norm(torch.full((2, 2), torch.nan), None, *[torch.ones(2)] * 4), "NaN"),
        (lambda: fold_batch_norms(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2))), "layer 2 follows no"),
        (lambda: fold_batch_norms(nn.Sequential(nn.BatchNorm1d(2))), "layer 0 follows no"),
        (lambda: fold_batch_norms(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))), "running"),
        (lambda: fold_batch_norms(attach_fake_quant(nn.Sequential(nn.Linear(2, 2)), 4)), "make_permanent"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
    with pytest.raises(TypeError, match=r"nn\.Sequential"):
        fold_batch_norms(nn.Linear(2, 2))
