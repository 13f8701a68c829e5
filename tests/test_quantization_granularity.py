"""One scale a tensor, a row or a group: course_lib/quantization/granularity.py."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.quantization import (
    dequantize,
    fake_quantize_weights,
    from_groups,
    integer_range,
    quantize,
    quantized_bits,
    to_groups,
    weight_qparams,
)

EPS = torch.finfo(torch.float32).eps
seeds = st.integers(0, 2**31 - 1)
bits = st.integers(2, 8)
grains = st.sampled_from(["tensor", "row", "group"])
shapes = st.sampled_from([(5, 7), (4, 32), (3, 2, 3, 3), (1, 1)])


def drawn(seed, shape=(5, 7)):
    """Rows of different sizes, as real layers have them."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g) * torch.rand(shape[0], generator=g).view(-1, *[1] * (len(shape) - 1)) * 0.2


def slices(W, granularity, group_size):
    """The lists of weights that share a scale, in loops."""
    rows = [row.flatten().tolist() for row in W]
    if granularity == "tensor":
        return [[w for row in rows for w in row]]
    if granularity == "row":
        return rows
    return [row[i : i + group_size] for row in rows for i in range(0, len(row), group_size)]


@given(seeds, shapes, bits, grains, st.sampled_from([1, 3, 4, 100]))
def test_scales_are_the_largest_magnitudes_of_the_slices(seed, shape, n_bits, granularity, group_size):
    W = drawn(seed, shape).double()
    s, z = weight_qparams(W, n_bits, True, granularity, group_size)
    expected = [max(map(abs, part)) / integer_range(n_bits)[1] for part in slices(W, granularity, group_size)]
    assert s.flatten().tolist() == pytest.approx([e or 1.0 for e in expected], rel=1e-15)
    assert not z.any()


@given(seeds, shapes, bits, grains, st.booleans(), st.sampled_from([1, 3, 4, 100]))
def test_weights_move_at_most_half_a_step_of_their_own_slice(seed, shape, n_bits, granularity, symmetric, group_size):
    """The bound of affine.py, slice by slice, with the slice's own range; float32 as there."""
    W = drawn(seed, shape)
    W_hat = fake_quantize_weights(W, n_bits, symmetric, granularity, group_size)
    s, _ = weight_qparams(W, n_bits, symmetric, granularity, group_size)
    errors = slices((W_hat - W).abs(), granularity, group_size)
    for step, part, error in zip(s.flatten().tolist(), slices(W, granularity, group_size), errors):
        assert max(error) <= step / 2 + 2 * EPS * (max(map(abs, part)) + step)


@given(seeds, shapes, st.sampled_from([1, 2, 3, 5, 32]))
def test_groups_come_back_as_they_went(seed, shape, group_size):
    W = drawn(seed, shape)
    groups = to_groups(W, group_size)
    assert from_groups(groups, tuple(W.shape)).equal(W)
    assert groups.sum() == pytest.approx(W.sum().item(), abs=1e-5)  # the filling is zero


def test_groups_hand_example():
    groups = to_groups(torch.arange(1.0, 11).reshape(2, 5), 3)
    assert groups.tolist() == [[[1, 2, 3], [4, 5, 0]], [[6, 7, 8], [9, 10, 0]]]
    assert to_groups(torch.ones(2, 5), 99).shape == (2, 1, 5)


def test_granularity_hand_example():
    """Three bits, q_max = 3. One scale: step 1, so the first row vanishes. A scale a row saves it."""
    W = torch.tensor([[0.3, -0.1, 0.2, 0.0], [3.0, 1.0, -2.0, 0.4]])
    assert fake_quantize_weights(W, 3).tolist() == [[0, 0, 0, 0], [3, 1, -2, 0]]
    by_row = torch.tensor([[0.3, -0.1, 0.2, 0.0], [3.0, 1.0, -2.0, 0.0]])
    assert torch.allclose(fake_quantize_weights(W, 3, granularity="row"), by_row)
    assert weight_qparams(W, 3)[0].shape == () and weight_qparams(W, 3, granularity="row")[0].shape == (2, 1)
    s, _ = weight_qparams(W, 3, granularity="group", group_size=2)
    assert s.flatten().tolist() == pytest.approx([0.1, 0.2 / 3, 1, 2 / 3])


def test_a_searched_range_saves_a_row_with_an_outlier():
    """One weight of 10 among a thousand of rms 1, 3 bits: the full range has step 10/3 and erases most of them."""
    W = torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    W[0, 0] = 10
    full, searched = ((fake_quantize_weights(W, 3, clip=clip) - W).square().mean() for clip in ("max", "mse"))
    assert searched < 0.4 * full


@settings(max_examples=10)
@given(seeds, bits, grains, st.booleans())
def test_a_searched_range_never_has_the_larger_error(seed, n_bits, granularity, symmetric):
    """The full range is the first candidate, so the search can only gain, slice by slice."""
    W = drawn(seed, (4, 40))
    full, searched = (
        slices((fake_quantize_weights(W, n_bits, symmetric, granularity, 8, clip) - W).square().double(), granularity, 8)
        for clip in ("max", "mse")
    )
    assert all(sum(b) <= sum(a) * (1 + 1e-5) for a, b in zip(full, searched))


@given(seeds, bits)
def test_scaling_a_row_scales_its_result(seed, n_bits):
    """A scale of its own makes a row independent of the others; powers of two stay exact."""
    W = drawn(seed)
    factor = torch.tensor([1.0, 2, 4, 0.5, 8])[:, None]
    by_row = fake_quantize_weights(W, n_bits, granularity="row")
    assert fake_quantize_weights(W * factor, n_bits, granularity="row").equal(by_row * factor)


@given(seeds, bits, grains, st.booleans())
def test_twice_is_once(seed, n_bits, granularity, symmetric):
    """The grid of W_hat is that of W where its largest code is in use, always so for symmetric codes."""
    W = drawn(seed)
    s, z = weight_qparams(W, n_bits, symmetric, granularity, 4)
    parts = to_groups(W, 4) if granularity == "group" else W
    q = quantize(parts, s, z, n_bits)
    assert quantize(dequantize(q, s, z), s, z, n_bits).equal(q)


@pytest.mark.parametrize("granularity", ["tensor", "row", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("clip", ["max", "mse"])
def test_zero_rows_constants_and_single_elements_work(granularity, symmetric, clip):
    W = torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0], [-1.0, 0.0, 1.0]])
    W_hat = fake_quantize_weights(W, 8, symmetric, granularity, 2, clip)
    assert (W_hat[0] == 0).all() and (W_hat - W).abs().max() < 0.01
    one = fake_quantize_weights(torch.tensor([[0.7]]), 4, symmetric, granularity, 2, clip)
    assert one.item() == pytest.approx(0.7, abs=0.7 / 30)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (((300, 784), 8), 300 * 784 * 8 + 16),
        (((300, 784), 4, True, "row"), 300 * 784 * 4 + 300 * 16),
        (((300, 784), 4, False, "row"), 300 * 784 * 4 + 300 * (16 + 4)),
        (((300, 784), 3, True, "group", 32), 300 * 784 * 3 + 300 * 25 * 16),  # 784 = 24.5 x 32: 25 groups a row
        (((8, 3, 2, 2), 2, True, "group", 100, 32), 96 * 2 + 8 * 32),
    ],
)
def test_cost_counts_the_scales(arguments, expected):
    assert quantized_bits(*arguments) == expected


@given(shapes, bits, grains, st.sampled_from([1, 3, 8]))
def test_cost_agrees_with_the_scales_that_are_made(shape, n_bits, granularity, group_size):
    s, _ = weight_qparams(drawn(0, shape), n_bits, False, granularity, group_size)
    expected = math.prod(shape) * n_bits + s.numel() * (16 + n_bits)
    assert quantized_bits(shape, n_bits, False, granularity, group_size) == expected


def test_input_is_not_changed_and_twice_is_the_same():
    W = drawn(1)
    before = W.clone()
    assert fake_quantize_weights(W, 3, granularity="group", clip="mse").equal(
        fake_quantize_weights(W, 3, granularity="group", clip="mse")
    )
    to_groups(W, 7).zero_()
    assert W.equal(before)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: weight_qparams(torch.ones(2, 2), granularity="column"), "'tensor', 'row', 'group'"),
        (lambda: weight_qparams(torch.ones(2, 2), clip="percentile"), "unknown clip"),
        (lambda: weight_qparams(torch.ones(2), granularity="row"), "output axis and an input axis"),
        (lambda: weight_qparams(torch.ones(2), granularity="group"), "output axis and an input axis"),
        (lambda: weight_qparams(torch.empty(0, 2)), "empty"),
        (lambda: fake_quantize_weights(torch.tensor([[math.nan]])), "NaN"),
        (lambda: fake_quantize_weights(torch.ones(2, 2), 1), "n_bits"),
        (lambda: to_groups(torch.ones(2, 2), 0), ">= 1"),
        (lambda: from_groups(torch.ones(2, 2, 2), (2, 5)), "do not make weights"),
        (lambda: from_groups(torch.ones(2, 2, 2), (2, 2)), "do not make weights"),
        (lambda: quantized_bits((0, 3)), "number of weights"),
        (lambda: quantized_bits((-2, -3)), "axis of the shape"),
        (lambda: quantized_bits((), 8, True, "row"), "output axis and an input axis"),
        (lambda: quantized_bits((4,), 8, True, "group"), "output axis and an input axis"),
        (lambda: quantized_bits((2, 3), 0), "n_bits"),
        (lambda: quantized_bits((2, 3), 99), "n_bits"),
        (lambda: quantized_bits((2, 3), 2.5), "n_bits"),
        (lambda: quantized_bits((2, 3), 8, True, "group", 0), "group_size"),
        (lambda: quantized_bits((2, 3), scale_bits=-1), "scale_bits"),
        (lambda: weight_qparams(torch.ones(2, 2, dtype=torch.int64), clip="mse"), "floating-point weights, got torch.int64"),
        (lambda: fake_quantize_weights(torch.ones(2, 2, dtype=torch.complex64)), "got torch.complex64"),
        (lambda: fake_quantize_weights(torch.ones(2, 2, dtype=torch.bool)), "got torch.bool"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
