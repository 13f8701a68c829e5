"""Tickets and their controls. Each name is a claim; each docstring says why it must hold."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.models import mlp
from course_lib.pruning import (
    attach_masks,
    current_masks,
    find_ticket,
    make_permanent,
    mask_overlap,
    prunable_weights,
    rewind,
    shuffled_masks,
    snapshot,
)
from course_lib.training import train

seeds = st.integers(0, 2**31 - 1)


def random_masks(seed, density=0.5):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) < density for name, shape in (("a", (5, 4)), ("b", (3,)))}


def grow(network):
    """A training that can be done by hand: stored weights of even columns grow by 1 in magnitude, the others halve."""
    with torch.no_grad():
        for layer in (network[0], network[2]):
            V = layer.parametrizations["weight"].original
            even = torch.arange(V.shape[1]) % 2 == 0
            V.copy_(torch.where(even, V + V.sign(), V / 2))


def test_a_snapshot_does_not_follow_the_training():
    model, X, labels = mlp(6, 5, 4), torch.randn(40, 6), torch.randint(4, (40,))
    before = copy.deepcopy(model.state_dict())
    state = snapshot(model)
    train(model, X, labels, batch_size=10, progress=False)
    assert state.keys() == before.keys() and all(value.equal(before[name]) for name, value in state.items())
    assert not state["0.weight"].equal(model[0].weight)


def test_one_round_is_one_shot_pruning_after_training():
    """The largest |w| after `grow`: even columns hold |w| + 1, odd ones |w| / 2, by hand."""
    model = mlp(4, 6, 3)
    state = snapshot(model)
    masks = find_ticket(model, state, grow, (0.5,))
    after = {
        name: torch.where(torch.arange(W.shape[1]) % 2 == 0, W.abs() + 1, W.abs() / 2)
        for name, W in prunable_weights(model).items()
    }
    threshold = torch.cat([value.flatten() for value in after.values()]).sort().values[21 - 1]  # 42 weights, 21 go
    assert all(masks[name].equal(value > threshold) for name, value in after.items())


def test_every_round_begins_with_the_same_values_and_the_mask_so_far():
    """Eq. (4): what `fit` gets is M_r * theta_k, with nothing left of the round before."""
    model, seen = mlp(4, 6, 3), []
    state = snapshot(model)

    def fit(network):
        seen.append((prunable_weights(network), current_masks(network), network[0].bias.detach().clone()))
        seen[-1] = copy.deepcopy(seen[-1])
        grow(network)
        network[0].bias.data += 1

    masks = find_ticket(model, state, fit, (0.3, 0.6, 0.8))
    assert len(seen) == 3
    for weights, mask, bias in seen:
        assert all(weights[name].equal(state[name] * mask[name]) for name in weights) and bias.equal(state["0.bias"])
    assert all(m.all() for m in seen[0][1].values())
    rounds = [mask for _, mask, _ in seen] + [masks]
    for earlier, later, p in zip(rounds, rounds[1:], (0.3, 0.6, 0.8)):
        assert all(not (later[name] & ~earlier[name]).any() for name in later)  # nested
        assert sum(int((~mask).sum()) for mask in later.values()) == round(42 * p)


def test_the_ticket_and_the_other_start_differ_in_values_only():
    """The identity controls that the chapter asserts: masks equal, initial values equal where they should be."""
    model = mlp(4, 6, 3)
    state, masks = snapshot(model), find_ticket(model, snapshot(model), grow, (0.5,))
    ticket, other = rewind(model, state, masks), rewind(model, snapshot(mlp(4, 6, 3, seed=1)), masks)
    for name, mask in masks.items():
        assert current_masks(ticket)[name].equal(mask) and current_masks(other)[name].equal(mask)
        assert prunable_weights(ticket)[name].equal(state[name] * mask)
        assert not prunable_weights(other)[name].equal(prunable_weights(ticket)[name])


def test_find_ticket_changes_nothing_given_and_repeats():
    model = mlp(4, 6, 3)
    state = snapshot(model)
    before, values = copy.deepcopy(state), copy.deepcopy(model.state_dict())
    one, two = (find_ticket(model, state, grow, (0.4, 0.7)) for _ in range(2))
    assert all(one[name].equal(two[name]) for name in one)
    assert all(state[name].equal(before[name]) and model.state_dict()[name].equal(values[name]) for name in before)


@given(seeds, st.floats(0, 1))
def test_shuffling_keeps_the_count_of_each_layer(seed, density):
    masks = random_masks(seed, density)
    shuffled = shuffled_masks(masks, torch.Generator().manual_seed(seed))
    assert all(shuffled[name].shape == mask.shape and shuffled[name].sum() == mask.sum() for name, mask in masks.items())
    assert all(mask.equal(random_masks(seed, density)[name]) for name, mask in masks.items())


def test_every_place_is_equally_likely_after_shuffling():
    """One kept of 4, 4,000 draws: each place 1,000 +- 5 sqrt(4000 * 1/4 * 3/4) = 137."""
    masks, generator, counts = {"a": torch.tensor([[True, False], [False, False]])}, torch.Generator().manual_seed(0), 0
    for _ in range(4000):
        counts = counts + shuffled_masks(masks, generator)["a"].int()
    assert ((counts - 1000).abs() < 137).all()


def test_the_generator_decides():
    masks = random_masks(0)
    draws = [shuffled_masks(masks, torch.Generator().manual_seed(s))["a"] for s in (1, 1, 2)]
    assert draws[0].equal(draws[1]) and not draws[0].equal(draws[2])


@given(seeds, seeds)
def test_the_overlap_is_its_formula_spelled_out(one, two):
    A, B = random_masks(one), random_masks(two, 0.7)
    places = {name: [{i for i, kept in enumerate(m[name].flatten().tolist()) if kept} for m in (A, B)] for name in A}
    kept = sum(len(a) for a, _ in places.values())
    if kept:
        expected = sum(len(a & b) for a, b in places.values()) / kept
        assert mask_overlap(A, B) == pytest.approx(expected, abs=1e-12) and mask_overlap(A, A) == 1.0


def test_the_overlap_by_hand():
    """Two kept, one of them kept again: 1/2. The other way round three are kept, and one of them again: 1/3."""
    A = {"a": torch.tensor([True, True, False, False])}
    B = {"a": torch.tensor([False, True, True, True])}
    assert mask_overlap(A, B) == 0.5 and mask_overlap(B, A) == pytest.approx(1 / 3)


def masked():
    model = mlp(4, 3)
    attach_masks(model, {"0.weight": torch.ones(3, 4, dtype=torch.bool)})
    return model


ONE = {"a": torch.ones(2, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: snapshot(masked()), ValueError, "0.weight are masked"),
        (lambda: find_ticket(mlp(4, 3), snapshot(mlp(4, 3)), grow, ()), ValueError, "one at least"),
        (lambda: find_ticket(mlp(4, 3), snapshot(mlp(4, 3)), grow, (0.5, 0.4)), ValueError, "must rise"),
        (lambda: find_ticket(mlp(4, 3), snapshot(mlp(4, 3)), grow, (50,)), ValueError, "did you mean 0.5"),
        (lambda: find_ticket(mlp(4, 3), snapshot(mlp(4, 3)), make_permanent, (0.5,)), ValueError, "took the masks off"),
        (lambda: find_ticket(mlp(4, 3), snapshot(mlp(5, 3)), grow, (0.5,)), ValueError, "not a state of this model"),
        (lambda: shuffled_masks({}), ValueError, "there are no masks"),
        (lambda: shuffled_masks({"a": torch.ones(3)}), TypeError, "must be boolean"),
        (lambda: shuffled_masks({"a": torch.ones(0, dtype=torch.bool)}), ValueError, "empty"),
        (lambda: mask_overlap(ONE, {"b": ONE["a"]}), ValueError, "the same weights"),
        (lambda: mask_overlap(ONE, {"a": torch.ones(3, dtype=torch.bool)}), ValueError, "must have shape"),
        (lambda: mask_overlap({"a": ~ONE["a"]}, ONE), ValueError, "keep nothing"),
        (lambda: mask_overlap(ONE, {"a": torch.ones(2)}), TypeError, "must be boolean"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, says, as_a_user):
    with pytest.raises(error, match=says):
        call()
