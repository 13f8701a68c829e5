"""Equalization and bias correction: course_lib/quantization/equalization.py."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.quantization import (
    channel_ranges,
    correct_biases,
    equalize,
    equalize_pair,
    output_shift,
    quantize_layers,
    rescale_channels,
)

AFFINE = (nn.Linear, nn.Conv2d)


def network(seed=0):
    """Each kind of neighbours: to a depthwise layer, from one, and to a linear layer behind a flattened map of 2 x 2."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 7),
        nn.ReLU(),
        nn.Linear(7, 3),
    ).eval()


def factors(seed=0, octaves=4):
    g = torch.Generator().manual_seed(seed)
    return {k: torch.exp2(octaves * (2 * torch.rand(n, generator=g) - 1)) for k, n in enumerate((6, 6, 5, 7))}


def weights(model):
    return [layer.weight.detach() for layer in model if isinstance(layer, AFFINE)]


def test_one_pair_by_hand():
    """r1 = (8, 1), r2 = (2, 4): s = sqrt(8/2) = 2 and sqrt(1/4) = 1/2; both ranges become 4 and 2."""
    W1, W2 = torch.tensor([[8.0, -2.0], [1.0, 0.5]]), torch.tensor([[2.0, 4.0], [-1.0, 0.0]])
    V1, b, V2 = equalize_pair(W1, torch.tensor([6.0, 3.0]), W2)
    assert V1.tolist() == [[4, -1], [2, 1]] and b.tolist() == [3, 6] and V2.tolist() == [[4, 2], [-2, 0]]
    assert [r.tolist() for r in channel_ranges(V1, V2)] == [[4, 2], [4, 2]]


def test_ranges_of_every_kind_of_reader_by_loops():
    W1 = torch.randn(3, 4)
    for W2 in (
        torch.randn(3, 1, 2, 2),
        torch.randn(6, 1, 2, 2),
        torch.randn(5, 3, 2, 2),
        torch.randn(5, 12),
        torch.randn(5, 3),
    ):
        r1, r2 = channel_ranges(W1, W2)
        assert r1.tolist() == [max(abs(float(v)) for v in row) for row in W1]
        for i in range(3):
            if W2.ndim == 4 and W2.shape[1] == 1:
                read = W2[i * len(W2) // 3 : (i + 1) * len(W2) // 3]
            else:
                n = W2.shape[1] // 3
                read = W2[:, i * n : (i + 1) * n]
            assert float(r2[i]) == float(read.abs().max())


@given(st.integers(0, 999))
def test_the_pair_computes_the_same_and_its_ranges_are_equal(seed):
    g = torch.Generator().manual_seed(seed)
    W1, b1, W2, x = (torch.randn(s, generator=g).double() for s in ((5, 4), (5,), (3, 5), (10, 4)))
    V1, c1, V2 = equalize_pair(W1, b1, W2)
    assert ((x @ V1.T + c1).relu() @ V2.T).allclose((x @ W1.T + b1).relu() @ W2.T, rtol=1e-10)
    r1, r2 = channel_ranges(V1, V2)
    assert r1.allclose(r2, rtol=1e-12)


@given(st.integers(0, 99))
def test_no_other_factors_give_larger_precisions(seed):
    """Nagel's criterion: the sum over channels of (range of the row / range of the tensor), both sides multiplied."""
    g = torch.Generator().manual_seed(seed)
    W1, W2 = torch.randn(4, 3, generator=g), torch.randn(5, 4, generator=g)

    def precision(W1, W2):
        r1, r2 = channel_ranges(W1, W2)
        return float(((r1 / r1.max()) * (r2 / r2.max())).sum())

    best = precision(*equalize_pair(W1, None, W2)[::2])
    for _ in range(20):
        s = torch.exp2(4 * torch.rand(4, generator=g) - 2)
        assert precision(W1 / s[:, None], W2 * s) <= best * (1 + 1e-5)


def test_the_whole_chain_computes_the_same_and_neighbours_are_equal():
    model, X = rescale_channels(network(), factors()), torch.randn(20, 1, 4, 4)
    even = equalize(model)
    assert even(X).allclose(model(X), rtol=1e-3, atol=1e-4)
    for W1, W2 in zip(weights(even), weights(even)[1:]):
        r1, r2 = channel_ranges(W1, W2)
        assert r1.allclose(r2, rtol=1e-3)


def test_equalization_undoes_any_rescaling():
    """The even network does not depend on which of the equal networks it started from."""
    a, b = equalize(network(), 200, 1e-7), equalize(rescale_channels(network(), factors(3)), 200, 1e-7)
    assert all(V.allclose(W, rtol=1e-3, atol=1e-6) for V, W in zip(weights(a), weights(b)))


def test_rescaling_changes_weights_and_not_the_function():
    model, X = network(), torch.randn(20, 1, 4, 4)
    spread = rescale_channels(model, factors())
    assert spread(X).allclose(model(X), rtol=1e-4, atol=1e-5)
    assert weights(spread)[0][2].allclose(weights(model)[0][2] / factors()[0][2])
    assert spread[0].bias.allclose(model[0].bias / factors()[0])
    assert weights(spread)[1][2].allclose(weights(model)[1][2] * factors()[0][2] / factors()[1][2])


def test_one_scale_a_tensor_fails_on_spread_channels_and_not_on_equalized_ones():
    model, X = network(), torch.randn(200, 1, 4, 4)
    spread = rescale_channels(model, factors())
    lost = [(quantize_layers(m, 8, "tensor")(X) - model(X)).square().mean() for m in (spread, equalize(spread))]
    assert lost[1] < 0.1 * lost[0]


def test_a_dead_channel_stays_and_makes_no_nan():
    W1, W2 = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    V1, b, V2 = equalize_pair(W1, None, W2)
    assert V1.equal(W1) and V2.equal(W2) and b is None


def test_the_shift_of_the_mean_is_that_of_samples():
    W, X = torch.randn(4, 6), torch.randn(50, 6) + 1
    W_hat = (W * 2).round() / 2
    measured = (X @ W_hat.T - X @ W.T).mean(0)
    assert output_shift(W, W_hat, X.mean(0)).allclose(measured, atol=1e-5)
    assert output_shift(torch.ones(1, 2), torch.tensor([[1.5, 1.0]]), torch.tensor([4.0, 9.0])).tolist() == [2.0]


def test_corrected_outputs_have_the_means_of_the_float_network():
    model, X = network(), torch.randn(100, 1, 4, 4) + 0.5
    quantized = quantize_layers(model, 3, "tensor")
    corrected = correct_biases(quantized, model, X)
    x, x_hat, wrong = X, X, X
    for layer, layer_hat, uncorrected in zip(model, corrected, quantized):
        x, x_hat, wrong = layer(x), layer_hat(x_hat), uncorrected(wrong)
        if isinstance(layer, AFFINE):
            axes = [0, 2, 3][: x.ndim - 1]
            assert x_hat.mean(axes).allclose(x.mean(axes), atol=1e-5) and not wrong.mean(axes).allclose(x.mean(axes), atol=1e-3)
    assert all(a.equal(b) for a, b in zip(weights(corrected), weights(quantized)))


def test_correcting_a_linear_layer_is_subtracting_the_shift():
    model, X = nn.Sequential(nn.Linear(5, 3)), torch.randn(40, 5)
    quantized = quantize_layers(model, 2)
    shift = output_shift(model[0].weight.detach(), quantized[0].weight.detach(), X.mean(0))
    assert correct_biases(quantized, model, X)[0].bias.allclose(model[0].bias - shift, atol=1e-5)


def test_a_layer_without_bias_is_given_one_and_nothing_given_is_changed():
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    quantized, X = quantize_layers(model, 2), torch.rand(40, 5)
    before = copy.deepcopy([m.state_dict() for m in (model, quantized)])
    assert correct_biases(quantized, model, X)[0].bias.shape == (3,)
    first, second = (equalize(model) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(weights(first), weights(second)))
    for state, m in zip(before, (model, quantized)):
        assert state.keys() == m.state_dict().keys() and all(state[k].equal(v) for k, v in m.state_dict().items())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: channel_ranges(torch.ones(3, 2), torch.ones(2, 4)), "cannot read"),
        (lambda: channel_ranges(torch.ones(3, 2), torch.ones(2, 6, 1, 1)), "cannot read"),
        (lambda: equalize_pair(torch.tensor([[torch.inf]]), None, torch.ones(1, 1)), "infinite"),
        (lambda: equalize(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2))), "Sigmoid"),
        (lambda: equalize(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))), "fold it first"),
        (lambda: equalize(network(), 0), "n_sweeps"),
        (lambda: rescale_channels(network(), {4: torch.ones(3)}), "no pair 4"),
        (lambda: rescale_channels(network(), {0: -torch.ones(6)}), "positive"),
        (lambda: rescale_channels(network(), {0: torch.ones(5)}), "6 positive"),
        (lambda: output_shift(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2)), "3 entries"),
        (lambda: correct_biases(nn.Sequential(nn.ReLU()), network(), torch.rand(1, 1, 4, 4)), "same layers"),
        (lambda: correct_biases(network(), network(), torch.empty(0, 1, 4, 4)), "empty"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
    for function in (equalize, lambda m: rescale_channels(m, {})):
        with pytest.raises(TypeError, match=r"nn\.Sequential"):
            function(nn.Linear(2, 2))
