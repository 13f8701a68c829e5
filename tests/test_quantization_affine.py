"""Scale, zero point, codes: every promise of course_lib/quantization/affine.py."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.quantization import choose_qparams, dequantize, integer_range, quantize, round_to_integer

EPS = torch.finfo(torch.float32).eps
FORMS = [(True, True), (False, True), (False, False)]  # (symmetric, signed)


def drawn(seed, shape=(5, 7)):
    """Weights of very different sizes and offsets, so that ranges on one side of 0 occur too."""
    g = torch.Generator().manual_seed(seed)
    scale, offset = 10 ** (4 * torch.rand(2, generator=g) - 2)
    return torch.randn(shape, generator=g) * scale + offset * torch.randint(-1, 2, (1,), generator=g)


seeds = st.integers(0, 2**31 - 1)
bits = st.integers(2, 8)
forms = st.sampled_from(FORMS)


def spelled_out(low, high, n_bits, symmetric, signed):
    """Equations (3) and (4) with Python numbers."""
    low, high = min(low, 0.0), max(high, 0.0)
    q_min, q_max = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if signed else (0, 2**n_bits - 1)
    if low == high == 0:
        return 1.0, 0 if symmetric else q_min
    if symmetric:
        return max(-low, high) / q_max, 0
    s = (high - low) / (q_max - q_min)
    return s, min(max(q_min - round(low / s), q_min), q_max)


@pytest.mark.parametrize(
    ("n_bits", "signed", "narrow", "expected"),
    [
        (8, True, False, (-128, 127)),
        (8, False, False, (0, 255)),
        (8, True, True, (-127, 127)),
        (4, True, False, (-8, 7)),
        (2, True, False, (-2, 1)),
        (2, True, True, (-1, 1)),
        (4, False, True, (1, 15)),
    ],
)
def test_ranges_are_those_of_the_machine(n_bits, signed, narrow, expected):
    assert integer_range(n_bits, signed, narrow) == expected


def test_the_documents_rule_erases_every_weight_up_to_one_half():
    """Ties go to the even integer: 0.5 to 0, 1.5 and 2.5 to 2, -0.5 to 0."""
    W = torch.tensor([0.49, 0.5, -0.5, 0.51, 1.5, 2.5, -1.5, -3.2])
    assert round_to_integer(W).tolist() == [0, 0, 0, 1, 2, 2, -2, -3]


@given(seeds)
def test_the_documents_rule_is_python_s_round_of_each_weight(seed):
    W = drawn(seed)
    assert round_to_integer(W).tolist() == [[float(round(w)) for w in row] for row in W.tolist()]


def test_hand_example_affine():
    """[-1, 3] in 2 unsigned bits: steps of 4/3, z = round(3/4) = 1; the grid is -4/3, 0, 4/3, 8/3."""
    s, z = choose_qparams(-1.0, 3.0, 2, symmetric=False, signed=False)
    assert math.isclose(float(s), 4 / 3, rel_tol=EPS) and int(z) == 1
    q = quantize(torch.tensor([-1.0, 0.0, 0.7, 3.0, 99.0]), s, z, 2, signed=False)
    assert q.tolist() == [0, 1, 2, 3, 3] and q.dtype == torch.uint8
    assert torch.allclose(dequantize(q, s, z), torch.tensor([-4 / 3, 0, 4 / 3, 8 / 3, 8 / 3]), rtol=2 * EPS)


def test_hand_example_symmetric():
    s, z = choose_qparams(-0.5, 1.27)
    assert math.isclose(float(s), 0.01, rel_tol=EPS) and int(z) == 0
    assert quantize(torch.tensor([-0.5, 0.004, 0.006, 1.27, -2.0]), s, z).tolist() == [-50, 0, 1, 127, -128]


@given(seeds, bits, forms)
def test_scale_and_zero_point_are_the_formula_spelled_out(seed, n_bits, form):
    W = drawn(seed).double()
    s, z = choose_qparams(W.amin(1), W.amax(1), n_bits, *form)
    for i, row in enumerate(W.tolist()):
        s_i, z_i = spelled_out(min(row), max(row), n_bits, *form)
        assert math.isclose(float(s[i]), s_i, rel_tol=1e-15) and int(z[i]) == z_i


@given(seeds, bits, forms)
def test_codes_are_the_formula_spelled_out(seed, n_bits, form):
    """Python's round sends ties to even too; the division is the same single rounding in float64."""
    W = drawn(seed).double()
    s, z = choose_qparams(W.min(), W.max(), n_bits, *form)
    q_min, q_max = integer_range(n_bits, form[1])
    expected = [[min(max(round(w / float(s)) + int(z), q_min), q_max) for w in row] for row in (2 * W).tolist()]
    q = quantize(2 * W, s, z, n_bits, form[1])
    assert q.tolist() == expected
    assert dequantize(q, s, z).tolist() == [[(k - int(z)) * float(s) for k in row] for row in expected]


@given(seeds, bits, forms)
def test_no_value_of_the_range_moves_more_than_half_a_step(seed, n_bits, form):
    """Rounding z shifts the grid by up to s/2, and a value cut off by that shift still lies within s/2 of the end.

    Float32: w/s, s(q-z) and s itself each carry a relative error of at most eps/2, on at most |w| + s.
    """
    W = drawn(seed)
    s, z = choose_qparams(W.min(), W.max(), n_bits, *form)
    error = (dequantize(quantize(W, s, z, n_bits, form[1]), s, z) - W).abs()
    assert (error <= s / 2 + 2 * EPS * (W.abs() + s)).all()


@given(seeds, bits, forms)
def test_zero_comes_back_as_exactly_zero(seed, n_bits, form):
    W = drawn(seed)
    W[0, 0] = 0
    low, high = W.min(), W.max()
    s, z = choose_qparams(low, high, n_bits, *form)
    assert dequantize(quantize(torch.zeros(1), s, z, n_bits, form[1]), s, z).item() == 0.0


@given(seeds, bits, forms)
def test_quantizing_twice_changes_nothing(seed, n_bits, form):
    W = drawn(seed)
    s, z = choose_qparams(W.min(), W.max(), n_bits, *form)
    q = quantize(W, s, z, n_bits, form[1])
    assert quantize(dequantize(q, s, z), s, z, n_bits, form[1]).equal(q)


@given(st.floats(0.5, 100), st.floats(0.01, 0.4), st.booleans())
def test_a_range_without_zero_is_stretched_and_does_not_saturate(offset, width, negative):
    """The mistake of well-known courses: [3, 5] with z clipped to 0 sends everything to the end of the range."""
    low, high = (-offset - width, -offset) if negative else (offset, offset + width)
    s, z = choose_qparams(low, high, 8, symmetric=False)
    W = torch.linspace(low, high, 50)
    assert math.isclose(float(s), (offset + width) / 255, rel_tol=2 * EPS)
    assert ((dequantize(quantize(W, s, z), s, z) - W).abs() <= s * (0.5 + 1e-4)).all()


@given(seeds, st.integers(2, 7), forms)
def test_one_bit_more_never_makes_the_step_larger(seed, n_bits, form):
    W = drawn(seed)
    steps = [float(choose_qparams(W.min(), W.max(), b, *form)[0]) for b in (n_bits, n_bits + 1)]
    assert steps[1] < steps[0]


@pytest.mark.parametrize("value", [0.0, 3.7, -2.5, 1e-44, 3e38])
@pytest.mark.parametrize("form", FORMS)
def test_constant_tensors_and_single_elements_work(value, form):
    """A constant is an end of its stretched range; 1e-44 is below float32's normal numbers, 3e38 near its largest."""
    W = torch.full((2, 3), value)
    s, z = choose_qparams(W.min(), W.max(), 8, *form)
    W_hat = dequantize(quantize(W, s, z, 8, form[1]), s, z)
    assert 0 < float(s) < math.inf
    assert ((W_hat - W).abs() <= s / 2 * (1 + 600 * EPS)).all()


def test_a_range_wider_than_float32_has_a_finite_scale():
    s, _ = choose_qparams(-3e38, 3e38, 8, symmetric=False)
    assert math.isclose(float(s), 6e38 / 255, rel_tol=EPS)


@given(seeds, st.integers(-6, 3), forms)
def test_codes_equal_torchs_for_steps_that_are_powers_of_two(seed, exponent, form):
    """torch multiplies by 1/s; for a power of two that is the same division, so the codes must agree everywhere."""
    W, s, signed = drawn(seed), 2.0**exponent, form[1]
    z = 0 if form[0] else (-17 if signed else 90)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that quantized dtypes will go
        theirs = torch.quantize_per_tensor(W, s, z, torch.qint8 if signed else torch.quint8)
    q = quantize(W, s, z, 8, signed)
    assert q.equal(theirs.int_repr())
    assert dequantize(q, s, z).equal(theirs.dequantize())


@given(seeds, bits, forms)
def test_values_equal_torchs_fake_quantization_for_any_step(seed, n_bits, form):
    """1/s against /s: a code may differ by one step, and only within 4 eps |w/s| of a tie."""
    W = drawn(seed)
    s, z = choose_qparams(W.min(), W.max(), n_bits, *form)
    q_min, q_max = integer_range(n_bits, form[1])
    theirs = torch.fake_quantize_per_tensor_affine(W, float(s), int(z), q_min, q_max)
    ours = dequantize(quantize(W, s, z, n_bits, form[1]), s, z)
    from_tie = ((W / s) - (W / s).floor() - 0.5).abs()
    assert ((ours - theirs).abs() <= 4 * EPS * ours.abs())[from_tie > 4 * EPS * (W / s).abs()].all()
    assert ((ours - theirs).abs() <= s * (1 + 1e-5)).all()


@given(seeds, bits)
def test_per_row_values_equal_torchs_per_channel(seed, n_bits):
    W = drawn(seed)
    s, z = choose_qparams(W.amin(1), W.amax(1), n_bits, symmetric=False)
    s = 2.0 ** s.log2().ceil()  # powers of two: no ties to argue about
    theirs = torch.fake_quantize_per_channel_affine(W, s, z, 0, *integer_range(n_bits))
    assert dequantize(quantize(W, s[:, None], z[:, None], n_bits), s[:, None], z[:, None]).equal(theirs)


def test_wide_codes_keep_all_their_bits():
    W = torch.tensor([-1.0, 1.0])
    s, z = choose_qparams(-1.0, 1.0, 16)
    q = quantize(W, s, z, 16)
    assert q.dtype == torch.int32 and q.tolist() == [-32767, 32767]


def test_the_difference_of_two_extreme_codes_does_not_wrap():
    """127 - (-128) = 255 does not fit into int8, and 0 - 255 not into uint8."""
    assert dequantize(torch.tensor([127], dtype=torch.int8), 1.0, -128).item() == 255
    assert dequantize(torch.tensor([0], dtype=torch.uint8), 1.0, 255).item() == -255


def test_input_is_not_changed_and_twice_is_the_same():
    W = drawn(3)
    before = W.clone()
    s, z = choose_qparams(W.min(), W.max(), 4, False)
    first, second = (dequantize(quantize(W, s, z, 4), s, z) for _ in range(2))
    round_to_integer(W)
    assert first.equal(second) and W.equal(before)


BAD = [
    (lambda: round_to_integer(torch.empty(0)), "empty"),
    (lambda: round_to_integer(torch.tensor([math.nan])), "1 NaN"),
    (lambda: integer_range(1), "from 2 to 16"),
    (lambda: integer_range(2.5), "whole number"),
    (lambda: choose_qparams(1.0, -1.0), "low must not be larger"),
    (lambda: choose_qparams(0.0, math.inf), "infinite"),
    (lambda: choose_qparams(-1.0, 1.0, 8, True, False), "no negative value"),
    (lambda: choose_qparams(torch.zeros(2), torch.ones(3)), "must have shape"),
    (lambda: choose_qparams(-1.0, 1.0, 32), "n_bits"),
    (lambda: quantize(torch.ones(2), 0.0), "> 0"),
    (lambda: quantize(torch.ones(2), -1.0), "> 0"),
    (lambda: quantize(torch.ones(2), math.nan), "> 0"),
    (lambda: quantize(torch.ones(2), 1.0, 0.5), "must be an integer"),
    (lambda: quantize(torch.ones(2, 3), torch.ones(2)), "does not broadcast"),
    (lambda: quantize(torch.ones(3), torch.ones(2, 3)), "does not broadcast"),
    (lambda: quantize(torch.tensor([math.inf]), 1.0), "1 infinite"),
    (lambda: dequantize(torch.empty(0, dtype=torch.int8), 1.0), "empty"),
    (lambda: dequantize(torch.ones(2, dtype=torch.int8), 0.0), "> 0"),
    (lambda: dequantize(torch.tensor([1.7]), 1.0), "integer codes, got torch.float32"),
    (lambda: dequantize(torch.tensor([True]), 1.0), "integer codes, got torch.bool"),
    (lambda: quantize(torch.ones(2, dtype=torch.complex64), 1.0), "real numbers, got torch.complex64"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_what_is_no_tensor_is_refused_in_words(as_a_user):
    with pytest.raises(TypeError, match=r"torch\.as_tensor"):
        quantize([1.0], 1.0)
