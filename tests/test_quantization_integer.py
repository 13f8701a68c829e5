"""Inference in integers alone: course_lib/quantization/integer.py and integer_network.py."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.calibration import input_qparams
from course_lib.quantization import (
    IntegerNetwork,
    attach_input_quant,
    fixed_point_multiplier,
    integer_conv2d,
    integer_linear,
    quantize_bias,
    quantize_layers,
    requantize,
    rounding_right_shift,
)


def codes(*shape, low=-128, high=128, seed=0, dtype=torch.int8):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    ).eval()


@given(st.floats(2.0**-30, 2.0**29))
def test_the_multiplier_has_31_bits_and_is_within_half_of_the_last(M):
    M0, n = (int(v) for v in fixed_point_multiplier(M))
    assert 2**30 <= M0 < 2**31
    assert abs(Fraction(M) - Fraction(M0) / Fraction(2) ** n) <= Fraction(M) / 2**31


@pytest.mark.parametrize(
    ("M", "expected"), [(0.5, (2**30, 31)), (1.0, (2**30, 30)), (0.75, (3 * 2**29, 31)), (1 - 2.0**-40, (2**30, 30))]
)
def test_multipliers_by_hand(M, expected):
    assert tuple(int(v) for v in fixed_point_multiplier(M)) == expected


@given(st.integers(-(2**61), 2**61), st.integers(0, 62))
def test_the_shift_is_exact_division_rounded_half_to_even(x, n):
    assert int(rounding_right_shift(torch.tensor([x]), n)) == round(Fraction(x, 2**n))


def test_ties_by_hand():
    x = torch.tensor([-6, -2, 2, 6, 10, 3, -3, 7])
    assert rounding_right_shift(x, 2).tolist() == [-2, 0, 0, 2, 2, 1, -1, 2]  # of -1.5, -0.5, 0.5, 1.5, 2.5, ...
    assert rounding_right_shift(x, 0).equal(x)


@given(st.integers(0, 9999), st.floats(1e-6, 0.1))
def test_requantization_equals_the_real_product_rounded(seed, M):
    acc = codes(200, low=-(2**31) + 1, high=2**31 - 1, seed=seed, dtype=torch.int64) >> (seed % 20)
    M0, n = fixed_point_multiplier(M)
    got = requantize(acc, M0, n, 7, 8, signed=False)
    exact = [Fraction(int(a)) * Fraction(int(M0)) / 2 ** int(n) for a in acc]
    assert got.tolist() == [max(0, min(255, round(v) + 7)) for v in exact] and got.dtype == torch.uint8


def test_each_row_has_its_own_multiplier():
    M0, n = fixed_point_multiplier(torch.tensor([0.5, 0.25]))
    assert requantize(torch.tensor([[10, 10], [-300, 600]], dtype=torch.int32), M0, n).tolist() == [[5, 2], [-128, 127]]


def test_a_linear_layer_by_hand():
    """(-2)(5 - 3) + 1 (1 - 3) + 10 = 4."""
    acc = integer_linear(
        torch.tensor([[5, 1]], dtype=torch.uint8), torch.tensor([[-2, 1]], dtype=torch.int8), 3, torch.tensor([10])
    )
    assert acc.tolist() == [[4]] and acc.dtype == torch.int32


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 300), st.integers(0, 255), st.integers(0, 99))
def test_accumulators_equal_loops_over_python_integers(B, n_out, n_in, z, seed):
    x, w, b = codes(B, n_in, low=0, high=256, seed=seed, dtype=torch.uint8), codes(n_out, n_in, seed=seed), codes(n_out, seed=1)
    acc = integer_linear(x, w, z, b.to(torch.int32))
    for k in range(B):
        for i in range(n_out):
            assert int(acc[k, i]) == sum(int(w[i, j]) * (int(x[k, j]) - z) for j in range(n_in)) + int(b[i])


@pytest.mark.parametrize(
    ("c", "n_out", "kernel", "stride", "padding", "groups"),
    [(3, 4, 3, 1, 1, 1), (4, 4, 3, 2, 1, 4), (4, 8, 3, 1, 0, 2), (6, 2, 1, 1, 0, 1), (2, 4, 5, 3, 2, 2)],
)
def test_a_convolution_equals_torch_s_in_double_precision(c, n_out, kernel, stride, padding, groups):
    """Every number is an integer far below 2^53, so double precision is exact and the oracle knows nothing of our indexing."""
    x, w = codes(2, c, 7, 9, low=0, high=256, dtype=torch.uint8), codes(n_out, c // groups, kernel, kernel)
    b = codes(n_out, seed=3).to(torch.int32) * 1000
    acc = integer_conv2d(x, w, 11, b, stride, padding, groups)
    real = nn.functional.conv2d(x.double() - 11, w.double(), b.double(), stride, padding, groups=groups)
    assert acc.dtype == torch.int32 and acc.double().equal(real)


def test_the_bias_is_counted_in_steps_of_the_accumulator():
    assert quantize_bias(torch.tensor([1.0, -0.5]), 0.1, torch.tensor([[0.01], [0.1]])).tolist() == [1000, -50]
    b = torch.randn(50)
    q = quantize_bias(b, 0.02, torch.tensor(0.003))
    assert (q.double() * 6e-5 - b.double()).abs().max() <= 3e-5 * (1 + 1e-6) and q.dtype == torch.int32


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("n_bits", [8, 5])
def test_the_network_in_integers_equals_its_real_twin_to_the_last_integer(granularity, n_bits):
    model, X = network(), torch.rand(300, 64)
    integers = IntegerNetwork(model, input_qparams(model, X, n_bits), X[:1], n_bits, granularity)
    ours, logits = integers.codes(X)
    real, real_logits = integers.simulate(X)
    assert len(ours) == 5 and all(a.equal(b) for a, b in zip(ours, real))
    assert logits.allclose(real_logits, rtol=1e-6) and integers(X).equal(logits)
    assert all(len(q.unique()) > 5 for q in ours)  # codes that carry something


def test_the_twin_is_fake_quantization_as_the_training_sees_it():
    """float32, other multipliers by 2^-31: single codes may fall on the other side of a tie, so logits agree to a few steps."""
    model, X = network(1), torch.rand(100, 64)
    qparams = input_qparams(model, X)
    fake = quantize_layers(model, 8, "row")
    attach_input_quant(fake, qparams, 8)
    integers = IntegerNetwork(model, qparams, X[:1])
    step = integers.layers[-1].s_x * float(fake[-1].weight.detach().abs().max())
    assert (integers(X) - fake(X)).abs().max() < 5 * step
    assert (integers(X) - model(X)).abs().max() < 0.05 * model(X).abs().max()


def test_the_model_stays_and_the_same_integers_come_out_each_time():
    model, X = network(), torch.rand(10, 64)
    before = copy.deepcopy(model.state_dict())
    qparams = input_qparams(model, X)
    a, b = (IntegerNetwork(model, qparams, X[:1]) for _ in range(2))
    assert a(X).equal(b(X)) and all(before[k].equal(v) for k, v in model.state_dict().items())
    assert a(X[:1]).equal(a(X)[:1])


def test_weights_and_biases_are_int8_and_int32():
    model, X = network(), torch.rand(10, 64)
    for layer in IntegerNetwork(model, input_qparams(model, X), X[:1]).layers:
        assert layer.q_w.dtype == torch.int8 and layer.q_bias.dtype == torch.int32


ONE = torch.ones(1, 1, dtype=torch.int32)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fixed_point_multiplier(0.0), "between"),
        (lambda: fixed_point_multiplier(2.0**30), "between"),
        (lambda: fixed_point_multiplier(torch.tensor([0.5, math.nan])), "NaN"),
        (lambda: rounding_right_shift(torch.tensor([1]), 63), "0 to 62"),
        (lambda: rounding_right_shift(torch.tensor([1.0]), 3), "must hold integers"),
        (lambda: requantize(torch.tensor([2**31]), torch.tensor(2**30), torch.tensor(31)), "int32"),
        (lambda: requantize(ONE, torch.tensor(2**30), torch.tensor(31), n_bits=1), "n_bits"),
        (lambda: integer_linear(ONE, torch.ones(1, 2, dtype=torch.int8), 0), "columns"),
        (lambda: integer_linear(ONE * 2**20, ONE * 2**20, 0), "beyond int32"),
        (lambda: integer_linear(ONE, ONE, 0, torch.ones(2, dtype=torch.int32)), "q_bias"),
        (lambda: integer_linear(ONE.float(), ONE, 0), "must hold integers"),
        (lambda: integer_conv2d(codes(1, 3, 4, 4), codes(2, 2, 3, 3), 0), "groups"),
        (lambda: integer_conv2d(codes(1, 1, 2, 2), codes(1, 1, 3, 3), 0), "does not fit"),
        (lambda: quantize_bias(torch.ones(2), 1e-9, torch.tensor(1e-9)), "int32"),
        (lambda: quantize_bias(torch.ones(2), 0.1, torch.tensor(-1.0)), "positive"),
        (lambda: IntegerNetwork(network(), {}, torch.rand(1, 64)), "no qparams"),
        (lambda: IntegerNetwork(nn.Sequential(nn.ReLU()), {}, torch.rand(1, 64)), "no linear layer"),
        (lambda: IntegerNetwork(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), {}, torch.rand(1, 2)), "fold it first"),
        (lambda: IntegerNetwork(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), {}, torch.rand(1, 2)), "Sigmoid"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
