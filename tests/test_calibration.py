"""Looking at what flows through a network: course_lib/calibration.py."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.calibration import input_qparams, layer_inputs, observe_inputs
from course_lib.quantization import MinMaxObserver, MSEObserver, PercentileObserver


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (2, 4, 4)),
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, groups=4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 3),
    )


def test_ranges_are_those_of_the_layers_inputs_walked_by_hand():
    model, X = network(), torch.randn(30, 32)
    observers = observe_inputs(model, X, batch_size=7)
    model.eval()
    seen = {"1": X, "4": model[:4](X).detach(), "7": model[:7](X).detach()}
    assert list(observers) == list(seen)
    for name, x in seen.items():
        assert observers[name].low == pytest.approx(float(x.min())) and observers[name].high == pytest.approx(float(x.max()))


def test_any_observer_serves_and_qparams_are_its_answer():
    model, X = network(), torch.rand(40, 32)
    for make in (MinMaxObserver, MSEObserver, lambda: PercentileObserver(0.99)):
        found = input_qparams(model, X, 4, make, layers=["4"])
        s, z = observe_inputs(model, X, make)["4"].qparams(4, False, False)
        assert list(found) == ["4"] and found["4"][0].equal(s) and found["4"][1].equal(z)
    assert input_qparams(model, X, 8, symmetric=True, signed=True)["1"][1] == 0


@given(st.integers(1, 50))
def test_the_size_of_the_batches_does_not_matter(batch_size):
    model, X = network(), torch.randn(50, 32)
    a, b = observe_inputs(model, X), observe_inputs(model, X, batch_size=batch_size)
    assert all(a[k].low == pytest.approx(b[k].low, abs=1e-5) and a[k].high == pytest.approx(b[k].high, abs=1e-5) for k in a)


@pytest.mark.parametrize("name", ["1", "4", "7"])
def test_weights_times_rows_is_the_layer(name):
    """Every row of every group, times the weights of its group, is an output of the layer at some place."""
    model, X = network().eval(), torch.randn(6, 32)
    layer = model.get_submodule(name)
    rows = layer_inputs(model, X, name, n_rows=10_000)
    groups = rows.shape[0]
    W = layer.weight.detach().reshape(groups, -1, rows.shape[2])
    out = torch.einsum("gri,goi->rgo", rows, W).flatten(1) + layer.bias.detach()  # (rows, out)
    y = model[: int(name) + 1](X).detach()
    y = y if y.ndim == 2 else y.permute(0, 2, 3, 1).flatten(0, 2)
    assert out.allclose(y, atol=1e-5)


def test_a_sample_is_drawn_without_replacement_and_the_same_each_time():
    model, X = network(), torch.randn(20, 32)
    few, all_rows = layer_inputs(model, X, "1", 9), layer_inputs(model, X, "1", 10_000)
    assert few.shape == (1, 9, 18) and all_rows.shape == (1, 80, 18)
    assert few.equal(layer_inputs(model, X, "1", 9)) and not few.equal(layer_inputs(model, X, "1", 9, seed=1))
    places = [(all_rows[0] == row).all(1).nonzero().flatten().tolist() for row in few[0]]
    assert all(places) and len({tuple(p) for p in places}) == 9


def test_by_hand():
    model = nn.Sequential(nn.Linear(1, 1))
    observer = observe_inputs(model, torch.tensor([[-1.0], [3.0]]))["0"]
    assert (observer.low, observer.high) == (-1, 3)
    s, z = input_qparams(model, torch.tensor([[0.0], [2.55]]))["0"]
    assert float(s) == pytest.approx(0.01) and int(z) == 0


def test_the_model_is_left_as_it_was_even_after_a_failure():
    model, X = network().train(), torch.randn(20, 32)
    before = copy.deepcopy(model.state_dict())
    observe_inputs(model, X)
    with pytest.raises(RuntimeError):
        observe_inputs(model, torch.randn(20, 31))
    assert model.training and model[2].training and not any(layer._forward_pre_hooks for layer in model.modules())
    assert all(before[k].equal(v) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: observe_inputs(network(), torch.empty(0, 32)), "empty"),
        (lambda: observe_inputs(network(), torch.full((2, 32), torch.nan)), "NaN"),
        (lambda: observe_inputs(network(), torch.rand(2, 32), layers=["3"]), "'3' is no linear"),
        (lambda: observe_inputs(nn.Sequential(nn.ReLU()), torch.rand(2, 3)), "no linear layer"),
        (lambda: observe_inputs(network(), torch.rand(2, 32), batch_size=0), "batch_size"),
        (lambda: input_qparams(network(), torch.rand(2, 32), 1), "n_bits"),
        (lambda: layer_inputs(network(), torch.rand(2, 32), "0"), "'0' is no linear"),
        (lambda: layer_inputs(network(), torch.rand(2, 32), "1", 0), "n_rows"),
        (lambda: layer_inputs(nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), torch.rand(1, 1, 4, 4), "0"), "by numbers"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_a_layer_that_the_run_never_used_is_reported(as_a_user):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="never came to layer idle"):
        observe_inputs(Idle(), torch.rand(3, 2))
    with pytest.raises(ValueError, match="never came to layer idle"):
        layer_inputs(Idle(), torch.rand(3, 2), "idle")
