"""Bits a layer under a byte budget: course_lib/quantization/mixed.py."""

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.quantization import (
    allocate_bits,
    attach_lsq,
    fake_quantize_weights,
    layer_bytes,
    pack_bits,
    quantize,
    quantize_layers,
    sensitivities,
    weight_qparams,
)

BITS = (2, 4, 8)


def network():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU())
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), inner, nn.Linear(5, 3)).eval()


tables = st.integers(1, 4).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(st.integers(-3, 30), min_size=3, max_size=3), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=n, max_size=n),
        st.integers(0, 80),
    )
)


@given(tables)
def test_the_choice_is_the_best_of_all_that_fit(drawn):
    losses, sizes, budget = drawn
    names = [f"layer {i}" for i in range(len(losses))]
    costs = {name: dict(zip(BITS, map(float, row))) for name, row in zip(names, losses)}
    size = {name: dict(zip(BITS, row)) for name, row in zip(names, sizes)}
    everything = [dict(zip(names, choice)) for choice in itertools.product(BITS, repeat=len(names))]
    totals = [(sum(costs[n][b] for n, b in c.items()), sum(size[n][b] for n, b in c.items())) for c in everything]
    fitting = [t for t in totals if t[1] <= budget]
    if not fitting:
        with pytest.raises(ValueError, match="too few"):
            allocate_bits(costs, size, budget)
        return
    chosen = allocate_bits(costs, size, budget)
    assert (sum(costs[n][b] for n, b in chosen.items()), sum(size[n][b] for n, b in chosen.items())) == min(fitting)


@given(tables)
def test_a_larger_budget_never_costs_more(drawn):
    losses, sizes, budget = drawn
    costs = {str(i): dict(zip(BITS, map(float, row))) for i, row in enumerate(losses)}
    size = {str(i): dict(zip(BITS, row)) for i, row in enumerate(sizes)}
    budget += sum(min(row) for row in sizes)
    totals = [sum(costs[n][b] for n, b in allocate_bits(costs, size, extra + budget).items()) for extra in (0, 5, 50)]
    assert totals == sorted(totals, reverse=True)


def test_a_budget_by_hand():
    """The sensitive layer is small: it gets the bits, and the large one pays for them."""
    costs = {"small": {2: 9.0, 8: 0.0}, "large": {2: 1.0, 8: 0.0}}
    sizes = {"small": {2: 1, 8: 4}, "large": {2: 10, 8: 40}}
    assert allocate_bits(costs, sizes, 20) == {"small": 8, "large": 2}
    assert allocate_bits(costs, sizes, 44) == {"small": 8, "large": 8}
    assert allocate_bits(costs, sizes, 11) == {"small": 2, "large": 2}


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_weights_are_the_library_s_round_trip_and_nothing_else_moves(granularity):
    model = network()
    before = copy.deepcopy(model.state_dict())
    q = quantize_layers(model, {"0": 2, "2.0": 3}, granularity)
    assert q[0].weight.equal(fake_quantize_weights(model[0].weight.detach(), 2, granularity=granularity))
    assert q[2][0].weight.equal(fake_quantize_weights(model[2][0].weight.detach(), 3, granularity=granularity))
    for key, value in q.state_dict().items():
        assert key in ("0.weight", "2.0.weight") or value.equal(before[key]), key
    assert all(before[k].equal(v) for k, v in model.state_dict().items())
    everywhere = quantize_layers(model, 4, granularity, "mse")
    assert all(len(everywhere.get_submodule(n).weight[0].unique()) <= 16 for n in ("0", "2.0", "3"))
    assert everywhere[2][1].weight.equal(model[2][1].weight)


def test_bytes_are_those_of_packed_codes_and_two_bytes_a_scale():
    model = network()
    for granularity, n_scales in (("tensor", 1), ("row", 6)):
        s, z = weight_qparams(model[0].weight.detach(), 3, granularity=granularity)
        packed = pack_bits(quantize(model[0].weight.detach(), s, z, 3), 3)
        assert layer_bytes(model, 3, granularity)["0"] == packed.numel() + 2 * n_scales
    assert layer_bytes(model, {"0": 2, "2.0": 4, "3": 8}, "tensor") == {"0": 8, "2.0": 17, "3": 17}


def test_a_sensitivity_is_the_loss_with_that_layer_alone():
    model, X = network(), torch.randn(50, 4)
    reference = model(X).detach()

    def loss(network):
        return float((network(X).detach() - reference).square().mean()) + 1

    found = sensitivities(model, loss, (2, 8))
    assert list(found) == ["0", "2.0", "3"] and set(found["0"]) == {2, 8}
    assert found["2.0"][2] == pytest.approx(loss(quantize_layers(model, {"2.0": 2})) - 1, abs=1e-12)
    assert all(by_bits[8] < by_bits[2] for by_bits in found.values()) and found == sensitivities(model, loss, (2, 8))


TABLE = {"a": {2: 1.0}}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: quantize_layers(network(), {"1": 4}), "no layer"),
        (lambda: quantize_layers(network(), 1), "n_bits"),
        (lambda: quantize_layers(nn.Sequential(nn.ReLU()), 4), "no Linear or Conv"),
        (lambda: quantize_layers(attach_lsq(network(), 4), 4), "make_permanent"),
        (lambda: layer_bytes(network(), {"0": 4}), "exactly these"),
        (lambda: sensitivities(network(), lambda m: 0.0, ()), "no bits"),
        (lambda: sensitivities(network(), lambda m: 0.0, (1,)), "n_bits"),
        (lambda: sensitivities(network(), lambda m: float("nan")), "finite"),
        (lambda: allocate_bits({}, {}, 5), "at least one"),
        (lambda: allocate_bits(TABLE, {"a": {3: 1}}, 5), "same bits"),
        (lambda: allocate_bits({"a": {}}, {"a": {}}, 5), "no choice"),
        (lambda: allocate_bits(TABLE, {"a": {2: -1}}, 5), "sizes"),
        (lambda: allocate_bits(TABLE, {"a": {2: 9}}, 5), "too few; the smallest choice needs 9"),
        (lambda: allocate_bits({"a": {2: float("inf")}}, {"a": {2: 1}}, 5), "finite"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, call, says):
    with pytest.raises(ValueError, match=says):
        call()
