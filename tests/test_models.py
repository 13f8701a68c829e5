"""The networks have the sizes that the papers print, and making one is repeatable and free of side effects."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.models import hinton_student, hinton_teacher, lenet_5, lenet_300_100, mlp

MAKERS = [lenet_300_100, lenet_5, hinton_teacher, hinton_student]
widths = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def count(model):
    return sum(W.numel() for W in model.parameters())


def state(model):
    return torch.cat([W.detach().flatten() for W in model.parameters()])


@pytest.mark.parametrize(
    ("make", "parameters"),
    [(lenet_300_100, 266_610), (lenet_5, 431_080), (hinton_teacher, 2_395_210), (hinton_student, 1_276_810)],
)
def test_parameters_are_those_of_the_papers(make, parameters):
    assert count(make()) == parameters


@pytest.mark.parametrize("make", MAKERS)
def test_rows_of_784_become_ten_logits(make):
    """A chain of layers, nothing else: chapters index and replace them."""
    model = make().eval()
    assert isinstance(model, nn.Sequential) and model(torch.rand(3, 784)).shape == (3, 10)


@given(widths)
def test_an_mlp_has_as_many_parameters_as_formula_3_says(sizes):
    assert count(mlp(*sizes)) == sum(o * i + o for i, o in pairwise(sizes))


@given(widths, st.integers(0, 100))
def test_an_mlp_computes_formula_1_spelled_out(sizes, seed):
    """In float64 loops over units and inputs; a float32 sum of at most nine terms errs by less than 1e-5 of its size."""
    model = mlp(*sizes, seed=seed)
    h = torch.rand(sizes[0], generator=torch.Generator().manual_seed(seed)).tolist()
    x = torch.tensor([h])
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        W, bias = layer.weight.double().tolist(), layer.bias.double().tolist()
        h = [sum(w * v for w, v in zip(row, h)) + b for row, b in zip(W, bias)]
        if number < len(linear) - 1:
            h = [max(v, 0.0) for v in h]
    torch.testing.assert_close(model(x)[0].double(), torch.tensor(h, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_dropout_stands_after_each_hidden_relu_and_only_there():
    kinds = [type(layer) for layer in mlp(4, 3, 2, 5, dropout=0.5)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in mlp(4, 3, 5)] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("make", MAKERS)
def test_weights_have_the_variance_of_formula_2_and_biases_are_zero(make):
    """The sample variance of n Gaussian draws has relative standard deviation sqrt(2/n); five of them are allowed."""
    model = list(make())
    for layer, after in zip(model, model[1:] + [None]):
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        n, fan_in = layer.weight.numel(), layer.weight[0].numel()
        expected = (2 if isinstance(after, nn.ReLU) else 1) / fan_in
        assert abs(layer.weight.var().item() / expected - 1) < 5 * math.sqrt(2 / n)
        assert not layer.bias.any()


def test_he_initialization_keeps_the_signal_through_twenty_layers():
    """The reason for g = 2: with g = 1 the mean square would halve at each ReLU, by 2^20 in all."""
    h = torch.rand(50, 256)
    model = mlp(*[256] * 21, 10)
    after = model[:-1](h)
    assert 0.2 < (after**2).mean() / (h**2).mean() < 5


@pytest.mark.parametrize("make", MAKERS)
def test_the_seed_alone_decides_and_the_global_state_neither_matters_nor_moves(make):
    before = torch.get_rng_state()
    first = state(make(seed=3))
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(99)
    assert state(make(seed=3)).equal(first)
    assert not state(make(seed=4)).equal(first)


@pytest.mark.parametrize(
    ("arguments", "keywords", "says"),
    [
        ((784,), {}, "an input and an output"),
        ((), {}, "an input and an output"),
        ((784, 0, 10), {}, ">= 1"),
        ((784, 2.5, 10), {}, "whole number"),
        ((4, 2), {"dropout": 50}, "did you mean 0.5"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, arguments, keywords, says):
    with pytest.raises(ValueError, match=says):
        mlp(*arguments, **keywords)


def test_smallest_net_works():
    assert mlp(1, 1)(torch.ones(1, 1)).isfinite().all()
