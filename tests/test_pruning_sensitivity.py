"""Error against sparsity, layer by layer, and budgets from it. Each name is a claim; each docstring says why it must hold."""

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from course_lib.models import lenet_5, mlp
from course_lib.pruning import attach_masks, budget_masks, layer_budgets, prunable_weights, sensitivity_scan, top_mask

GRID = (0.0, 0.3, 0.6, 1.0)
errors = st.floats(0, 1, width=32)
curves = st.tuples(errors, errors, errors, errors).map(lambda values: dict(zip(GRID, values)))
scans = st.lists(curves, min_size=1, max_size=4).map(lambda many: {f"{i}.weight": curve for i, curve in enumerate(many)})
fractions = st.floats(0, 1)


def sizes_of(scan):
    return {name: 10 ** (i + 1) for i, name in enumerate(scan)}


def envelope(curve, p):
    """G(p): the lowest point above p of all chords between two scanned points, tried one by one."""
    on_point = [e for q, e in curve.items() if q == p]
    chords = [
        a + (b - a) * (p - p0) / (p1 - p0)
        for (p0, a), (p1, b) in itertools.combinations(sorted(curve.items()), 2)
        if p0 <= p <= p1
    ]
    return min(on_point + chords)


def squared_weights(network):
    return sum(float((W.double() ** 2).sum()) for W in prunable_weights(network).values())


def test_the_scan_is_the_error_of_networks_pruned_by_hand():
    model = mlp(6, 5, 4)
    scan = sensitivity_scan(model, squared_weights, (0.0, 0.5, 1.0))
    for name, W in prunable_weights(model).items():
        for p, value in scan[name].items():
            gone = sorted(w * w for w in W.double().flatten().tolist())[: round(p * W.numel())]
            assert value == pytest.approx(squared_weights(model) - sum(gone), rel=1e-12)
    assert list(scan) == ["0.weight", "2.weight"] and list(scan["0.weight"]) == [0.0, 0.5, 1.0]


def test_a_score_can_be_chosen():
    """With the negated magnitude the largest weights go first, so more of the sum of squares goes."""
    model = mlp(6, 4)
    worst = sensitivity_scan(model, squared_weights, (0.5,), score=lambda W: -W.abs())
    assert worst["0.weight"][0.5] < sensitivity_scan(model, squared_weights, (0.5,))["0.weight"][0.5]


def test_convolutions_are_scanned_too_and_the_model_is_not_changed():
    model = lenet_5()
    before = copy.deepcopy(model.state_dict())
    first = sensitivity_scan(model, squared_weights, (0.9,))
    assert list(first) == ["1.weight", "3.weight", "6.weight", "8.weight"]
    assert first == sensitivity_scan(model, squared_weights, (0.9,))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@given(scans, fractions)
def test_the_budgets_meet_the_wanted_share_exactly(scan, sparsity):
    """A sum of at most 4 products of numbers up to 1e4: rounding stays below 1e-9 of the total."""
    sizes = sizes_of(scan)
    budgets = layer_budgets(scan, sizes, sparsity)
    assert list(budgets) == list(scan) and all(0 <= p <= 1 for p in budgets.values())
    assert sum(sizes[name] * p for name, p in budgets.items()) == pytest.approx(sparsity * sum(sizes.values()), abs=1e-9 * 1e5)


@given(scans, fractions)
def test_no_other_budget_has_a_smaller_sum_of_errors(scan, sparsity):
    """Peer: scipy's linear program. Each layer mixes its scanned points; a mixture lies on or above the envelope."""
    sizes = sizes_of(scan)
    total = sum(sizes.values())
    points = [(name, p, e) for name, curve in scan.items() for p, e in curve.items()]
    one_each = [[float(name == layer) for name, _, _ in points] for layer in scan]
    amount = [sizes[name] * p / total for name, p, _ in points]
    best = linprog([e for *_, e in points], A_eq=[*one_each, amount], b_eq=[1.0] * len(scan) + [sparsity])
    ours = sum(envelope(scan[name], p) for name, p in layer_budgets(scan, sizes, sparsity).items())
    assert best.status == 0 and ours == pytest.approx(best.fun, abs=1e-6)


@given(scans, fractions, fractions)
def test_a_larger_share_never_gives_a_layer_back(scan, a, b):
    low, high = (layer_budgets(scan, sizes_of(scan), p) for p in sorted((a, b)))
    assert all(low[name] <= high[name] + 1e-12 for name in scan)


def test_budgets_by_hand():
    """Prices: a 0.1/50 = 0.002, then 0.5/50 = 0.01; b 0.3/5 = 0.06. Of 110 weights 82.5 go: a gives 82.5, b none."""
    scan = {"a": {0: 0.0, 0.5: 0.1, 1.0: 0.6}, "b": {0: 0.0, 0.5: 0.3, 1.0: 0.9}}
    assert layer_budgets(scan, {"a": 100, "b": 10}, 0.75) == pytest.approx({"a": 0.825, "b": 0.0})
    assert layer_budgets(scan, {"a": 10, "b": 100}, 0.75) == pytest.approx({"a": 0.0, "b": 0.825})  # 0.02; 0.006, 0.012
    assert layer_budgets(scan, {"a": 100, "b": 10}, 0) == {"a": 0.0, "b": 0.0}
    assert layer_budgets(scan, {"a": 100, "b": 10}, 1) == {"a": 1.0, "b": 1.0}


def test_a_price_counts_how_long_its_stretch_is():
    """The first stretch of a costs 0.3 / 9 = 0.033 a weight, that of b 0.1 / 2 = 0.05, although b's error rises less."""
    scan = {"a": {0: 0.0, 0.9: 0.3, 1.0: 0.5}, "b": {0: 0.0, 0.2: 0.1, 1.0: 0.9}}
    assert layer_budgets(scan, {"a": 10, "b": 10}, 0.45) == pytest.approx({"a": 0.9, "b": 0.0})


def test_a_bump_in_the_scan_is_bridged():
    """At 0.5 the error is 0.9, at 1 it is 0.2: the envelope is the chord, 0.2 a layer, cheaper than the other's 0.3."""
    scan = {"a": {0: 0.0, 1.0: 0.3}, "b": {0: 0.0, 0.5: 0.9, 1.0: 0.2}}
    assert layer_budgets(scan, {"a": 10, "b": 10}, 0.5) == {"a": 0.0, "b": 1.0}


def test_equal_prices_go_in_the_order_of_the_layers():
    flat = {0: 0.0, 0.5: 0.0, 1.0: 0.0}
    assert layer_budgets({"a": flat, "b": flat}, {"a": 4, "b": 4}, 0.5) == {"a": 1.0, "b": 0.0}


@given(st.integers(0, 2**31 - 1), fractions, fractions)
def test_masks_hold_the_budgets(seed, p, q):
    S = {"a": torch.rand(5, 4, generator=torch.Generator().manual_seed(seed)), "b": torch.rand(3, 2)}
    masks = budget_masks(S, {"a": p, "b": q})
    assert masks["a"].equal(top_mask(S["a"], p)) and int((~masks["b"]).sum()) == round(6 * q)


def test_inputs_are_not_changed_and_twice_is_the_same():
    scan, sizes = {"a": {0: 0.1, 1.0: 0.3}, "b": {0: 0.2, 1.0: 0.2}}, {"a": 3, "b": 5}
    before = copy.deepcopy((scan, sizes))
    assert layer_budgets(scan, sizes, 0.7) == layer_budgets(scan, sizes, 0.7) and (scan, sizes) == before
    S = {"a": torch.ones(4)}
    assert budget_masks(S, {"a": 0.5})["a"].equal(budget_masks(S, {"a": 0.5})["a"]) and S["a"].equal(torch.ones(4))


def masked():
    model = mlp(4, 3)
    attach_masks(model, {"0.weight": torch.ones(3, 4, dtype=torch.bool)})
    return model


LINE = {0: 0.0, 0.5: 0.1}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: sensitivity_scan(mlp(4, 3), squared_weights, ()), "one at least"),
        (lambda: sensitivity_scan(mlp(4, 3), squared_weights, (0.5, 0.5)), "must rise"),
        (lambda: sensitivity_scan(mlp(4, 3), squared_weights, (0.5, 90)), "did you mean 0.9"),
        (lambda: sensitivity_scan(nn.ReLU(), squared_weights, (0.5,)), "no Linear or Conv weight"),
        (lambda: sensitivity_scan(masked(), squared_weights, (0.5,)), "already masked"),
        (lambda: sensitivity_scan(mlp(4, 3), lambda network: float("nan"), (0.5,)), "the error of 0.weight at sparsity 0.5"),
        (lambda: layer_budgets({}, {}, 0.5), "one at least"),
        (lambda: layer_budgets({"a": LINE}, {"b": 3}, 0.5), "the same layers"),
        (lambda: layer_budgets({"a": {0.5: 0.1}}, {"a": 3}, 0.5), "needs the error at sparsity 0"),
        (lambda: layer_budgets({"a": LINE}, {"a": 0}, 0.5), "whole number >= 1"),
        (lambda: layer_budgets({"a": LINE}, {"a": 3}, 0.6), "the scan ends at 0.5000"),
        (lambda: layer_budgets({"a": LINE}, {"a": 3}, 1.5), "fraction in \\[0, 1\\]"),
        (lambda: layer_budgets({"a": {0: float("inf")}}, {"a": 3}, 0.0), "finite number"),
        (lambda: budget_masks({}, {}), "the same layers"),
        (lambda: budget_masks({"a": torch.ones(2)}, {"b": 0.5}), "the same layers"),
        (lambda: budget_masks({"a": torch.ones(0)}, {"a": 0.5}), "empty"),
    ],
)
def test_bad_input_is_refused_in_words(call, says, as_a_user):
    with pytest.raises(ValueError, match=says):
        call()
