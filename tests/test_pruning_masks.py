"""Masks that hold while the network trains (section 3.1). Each name is a claim; each docstring says why it must hold."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from course_lib.pruning import (
    attach_masks,
    current_masks,
    magnitude_score,
    make_permanent,
    prunable_weights,
    top_mask,
    update_masks,
    weight_gradients,
)


def small():
    """Conv and Linear with biases, a norm between: three kinds of parameter that must not be pruned, two that may."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 5))


def half(model):
    return {name: top_mask(magnitude_score(W), 0.5) for name, W in prunable_weights(model).items()}


def batch(i):
    return torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(i))


def train(model, optimizer, n_steps=6):
    for i in range(n_steps):
        optimizer.zero_grad()
        model(batch(i)).square().mean().backward()
        optimizer.step()


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def test_weights_of_linear_and_conv_only():
    """No biases, no batch norm; names are those of the unmasked state_dict, with a mask attached or without, nested or not."""
    model = small()
    names = ["0.weight", "4.weight"]
    assert list(prunable_weights(model)) == names and set(names) <= set(model.state_dict())
    attach_masks(model, half(model))
    assert list(prunable_weights(model)) == names
    assert list(prunable_weights(nn.Sequential(small()))) == ["0.0.weight", "0.4.weight"]
    assert list(prunable_weights(nn.Linear(2, 2))) == ["weight"] and prunable_weights(nn.ReLU()) == {}


def test_the_forward_pass_uses_the_masked_weight():
    """By hand: W = [[1, 2], [3, 4]] without 2 and 3 on (1, 1) gives (1, 4)."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    attach_masks(layer, {"weight": torch.eye(2, dtype=torch.bool)})
    assert layer(torch.ones(1, 2)).tolist() == [[1.0, 4.0]] and prunable_weights(layer)["weight"].tolist() == [[1, 0], [0, 4]]


def test_removed_weights_get_gradient_zero_and_kept_ones_the_gradient_of_the_masked_network():
    """Eq. (2): compare with an ordinary network that holds the zeros as values."""
    masked, plain = small(), small()
    masks = half(masked)
    attach_masks(masked, masks)
    with torch.no_grad():
        for name, mask in masks.items():
            dict(plain.named_parameters())[name].mul_(mask)
    for model in (masked, plain):
        model(batch(0)).square().mean().backward()
    G = weight_gradients(masked)
    for name, dense in weight_gradients(plain).items():
        assert (G[name][~masks[name]] == 0).all() and dense[~masks[name]].abs().max() > 0
        assert G[name].equal(dense * masks[name])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masks_survive_any_optimizer_even_one_that_was_running_before(name):
    """Old momentum and weight decay move the stored values; the weight is masked after them."""
    model = small()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer)  # fills the momenta
    masks = half(model)
    attach_masks(model, masks)
    kept = {key: W[masks[key]].clone() for key, W in prunable_weights(model).items()}
    train(model, optimizer)
    for key, W in prunable_weights(model).items():
        assert (W[~masks[key]] == 0).all() and not W[masks[key]].equal(kept[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_bit_for_bit_that_of_torch_prune(name):
    """Peer: prune.custom_from_mask. Same masks, same batches: every weight and bias must be the same number."""
    ours, theirs = small(), small()
    masks = half(ours)
    attach_masks(ours, masks)
    for key, mask in masks.items():
        prune.custom_from_mask(theirs[int(key[0])], "weight", mask)
    for model in (ours, theirs):
        train(model, OPTIMIZERS[name](model.parameters()))
    for key in masks:
        layer = theirs[int(key[0])]
        assert prunable_weights(ours)[key].equal(layer.weight_orig * layer.weight_mask)
        assert ours[int(key[0])].bias.equal(layer.bias)


def test_a_masked_network_goes_through_a_file_and_through_deepcopy():
    model = small()
    attach_masks(model, half(model))
    train(model, OPTIMIZERS["adam"](model.parameters()))
    model.eval()
    file, other = io.BytesIO(), small()
    torch.save(model.state_dict(), file)
    file.seek(0)
    attach_masks(other, {name: torch.ones_like(mask) for name, mask in current_masks(model).items()})
    other.load_state_dict(torch.load(file))
    other.eval()
    for same in (other, copy.deepcopy(model)):
        assert same(batch(9)).equal(model(batch(9)))
        assert all(mask.equal(current_masks(model)[name]) for name, mask in current_masks(same).items())


def test_making_a_copy_permanent_leaves_the_original_masked():
    """torch 2.13: a deepcopy shares the class that parametrize made, and removing its property would break the original."""
    model = small().eval()
    attach_masks(model, half(model))
    output, other = model(batch(0)), copy.deepcopy(model)
    make_permanent(other)
    assert model(batch(0)).equal(output) and other(batch(0)).equal(output)
    assert len(current_masks(model)) == 2 and current_masks(other) == {}
    make_permanent(model)
    assert model(batch(0)).equal(output)


def test_permanent_means_an_ordinary_network_with_zeros():
    """Same numbers, ordinary names, ordinary parameters, positive zeros (a -0.0 would not be 0 to a byte codec)."""
    model = small().eval()
    names, masks = list(model.state_dict()), half(model)
    attach_masks(model, masks)
    output = model(batch(0))
    make_permanent(model)
    assert model(batch(0)).equal(output) and sorted(model.state_dict()) == sorted(names) and type(model[0]) is nn.Conv2d
    for name, W in prunable_weights(model).items():
        assert ((W == 0) == ~masks[name]).all() and not torch.signbit(W[~masks[name]]).any()
    assert isinstance(model[0].weight, nn.Parameter) and model[0].weight.requires_grad
    make_permanent(model)  # nothing left to do
    assert model(batch(0)).equal(output)


def test_an_optimizer_still_holds_the_permanent_weight_and_fills_the_zeros():
    """Why masks stand inside the function: without them one step undoes the pruning (an input that is 0 keeps some zeros)."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach_masks(model, half(model))
    train(model, optimizer)
    make_permanent(model)
    assert all(model[i].weight.grad is None for i in (0, 4))
    zeros = (model[4].weight == 0).float().mean()
    train(model, optimizer, 1)
    assert zeros >= 0.5 and (model[4].weight == 0).float().mean() < 0.1


def test_updated_masks_take_effect_and_may_give_weights_back():
    model = small()
    W = prunable_weights(model)["4.weight"].clone()
    attach_masks(model, half(model))
    update_masks(model, {"4.weight": torch.zeros(5, 48, dtype=torch.bool)})
    assert prunable_weights(model)["4.weight"].eq(0).all() and prunable_weights(model)["0.weight"].ne(0).any()
    update_masks(model, {"4.weight": torch.ones(5, 48, dtype=torch.bool)})
    assert prunable_weights(model)["4.weight"].equal(W)


def test_scoring_the_masked_weights_only_ever_prunes_more():
    """A removed weight reads as 0 and goes first again: the masks of a rising schedule are nested."""
    model = small()
    attach_masks(model, half(model))
    for sparsity in (0.6, 0.7, 0.9):
        before = current_masks(model)
        update_masks(model, {name: top_mask(magnitude_score(W), sparsity) for name, W in prunable_weights(model).items()})
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
        assert not any((after & ~before[name]).any() for name, after in current_masks(model).items())


def test_masks_are_copied_on_the_way_in_and_on_the_way_out():
    model = small()
    masks = half(model)
    attach_masks(model, masks)
    kept = {name: mask.clone() for name, mask in masks.items()}
    masks["0.weight"].fill_(False)
    current_masks(model)["4.weight"].fill_(False)
    assert all(mask.equal(kept[name]) for name, mask in current_masks(model).items())


def test_gradients_are_copies_that_zero_grad_does_not_reach():
    model = small()
    model(batch(0)).square().mean().backward()
    G = weight_gradients(model)
    model.zero_grad(set_to_none=False)
    assert all(g.abs().max() > 0 for g in G.values())


def test_all_true_all_false_and_single_weights_work():
    model = nn.Linear(1, 1)
    attach_masks(model, {"weight": torch.tensor([[False]])})
    assert model(torch.ones(1, 1)).item() == model.bias.item()
    update_masks(model, {"weight": torch.tensor([[True]])})
    assert prunable_weights(model)["weight"].item() != 0


def no_change(model, call, error, says):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=says):
        call(model)
    assert list(model.state_dict()) == list(before)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda m: attach_masks(m, half(m) | {"1.weight": torch.ones(3, dtype=torch.bool)}),
            ValueError,
            "'1.weight'; there",
        ),
        (lambda m: attach_masks(m, half(m) | {"4.weight": torch.ones(5, dtype=torch.bool)}), ValueError, r"shape \(5, 48\)"),
        (lambda m: attach_masks(m, {"4.weight": torch.ones(5, 48)}), TypeError, "must be boolean"),
        (lambda m: attach_masks(m, {"4.weight": [[True]]}), TypeError, "torch.Tensor"),
        (lambda m: update_masks(m, half(m)), ValueError, "no mask yet"),
        (weight_gradients, ValueError, "backward"),
    ],
)
def test_bad_masks_are_refused_in_words_and_change_nothing(call, error, says, as_a_user):
    no_change(small(), call, error, says)


def test_a_second_mask_and_a_foreign_parametrization_are_refused():
    model = small()
    attach_masks(model, {"0.weight": half(model)["0.weight"]})
    no_change(model, lambda m: attach_masks(m, half(m)), ValueError, "update_masks changes it")
    other = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)))
    no_change(other, lambda m: attach_masks(m, half(m)), ValueError, "another parametrization")
