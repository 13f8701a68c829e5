"""Removing channels for good (section 3.1). Each name is a claim; each docstring says why it must hold."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.pruning import attach_masks, make_permanent, remove_channels, zero_channels


def with_whole_numbers(model, seed):
    """Small integers as weights: every product and sum is exact, so equality is the right comparison, not nearness."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randint(-4, 5, parameter.shape, generator=generator).float()
    return model


def whole_numbers(seed, *shape):
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).float()


def chain(seed):
    """Conv, pool, Conv, pool, Flatten, Linear, Linear: each of the three couplings once (LeNet-5 in small)."""
    return with_whole_numbers(
        nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False), nn.ReLU(), nn.Dropout2d(0.5), nn.Flatten()),
            *(nn.Linear(6 * 3 * 2, 5), nn.LeakyReLU(0.5), nn.Dropout(0.5), nn.Linear(5, 3)),
        ),
        seed,
    ).eval()


keeps = st.integers(1, 2**4 - 1).map(lambda bits: torch.tensor([bool(bits >> i & 1) for i in range(4)]))


def test_by_hand():
    """Unit 1 goes: row 1 of the first matrix, bias 1, column 1 of the second."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    model[0].weight.data, model[0].bias.data = torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([7.0, 8, 9])
    model[2].weight.data = torch.tensor([[10.0, 11, 12]])
    smaller = remove_channels(model, "0", torch.tensor([True, False, True]))
    assert smaller[0].weight.tolist() == [[1, 2], [5, 6]] and smaller[0].bias.tolist() == [7, 9]
    assert smaller[2].weight.tolist() == [[10, 12]] and smaller[2].bias.equal(model[2].bias)
    assert (smaller[0].out_features, smaller[2].in_features) == (2, 2)


@given(st.integers(0, 1000), st.sampled_from(["0", "3", "7"]), keeps)
def test_the_smaller_network_is_the_full_one_with_those_channels_zero(seed, name, keep):
    """The oracle. Whole numbers, so not one bit may differ; the smaller one has fewer parameters whenever a channel goes."""
    model, x = chain(seed), whole_numbers(seed, 2, 1, 14, 10)
    keep = torch.cat([keep, torch.ones(model[int(name)].weight.shape[0] - 4, dtype=torch.bool)])
    smaller = remove_channels(model, name, keep)
    assert smaller(x).equal(zero_channels(model, name, keep)(x))
    assert smaller[int(name)].weight.shape[0] == int(keep.sum())


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_loses_the_same_channels(affine):
    """gamma, beta, running mean and variance are per channel. Without gamma nothing can be silenced, but removing still works:
    the kept channels must come out as they were. Float64: 40 operations at 1e-16 stay far below 1e-12."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(), nn.Conv2d(4, 3, 3)).double()
    x, keep = torch.randn(8, 2, 6, 6).double(), torch.tensor([True, False, True, False])
    model(3 * x + 1), model.eval()  # running statistics that differ between channels
    smaller = remove_channels(model, "0", keep)
    torch.testing.assert_close(smaller[:3](x), model[:3](x)[:, keep], rtol=0, atol=1e-12)
    assert smaller[1].num_features == 2 and smaller[1].running_var.shape == (2,)
    if affine:
        torch.testing.assert_close(smaller(x), zero_channels(model, "0", keep)(x), rtol=0, atol=1e-12)


def test_a_one_dimensional_batch_norm_between_linear_layers():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, keep = torch.randn(16, 5).double(), torch.tensor([False, True, True, True])
    model(x), model.eval()
    torch.testing.assert_close(remove_channels(model, "0", keep)(x), zero_channels(model, "0", keep)(x), rtol=0, atol=1e-12)


def test_each_channel_owns_its_run_of_columns_after_flatten():
    """(C, h, w) flattens channel first: of 3 channels with 2 x 2 places, channel 1 owns columns 4 to 7."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Flatten(), nn.Linear(12, 1))
    model[2].weight.data = torch.arange(12.0)[None]
    smaller = remove_channels(model, "0", torch.tensor([True, False, True]))
    assert smaller[2].weight.tolist() == [[0, 1, 2, 3, 8, 9, 10, 11]] and smaller[2].in_features == 8


def test_keeping_everything_changes_nothing_and_the_order_of_removals_does_not_matter():
    model, x = chain(0), whole_numbers(1, 2, 1, 14, 10)
    assert remove_channels(model, "3", torch.ones(6, dtype=torch.bool))(x).equal(model(x))
    a, b = torch.tensor([True, False, True, True]), torch.tensor([True, True, False, True, False, True])
    one_way = remove_channels(remove_channels(model, "0", a), "3", b)
    assert one_way(x).equal(remove_channels(remove_channels(model, "3", b), "0", a)(x))


def test_the_model_given_is_not_changed_and_shares_nothing():
    model, keep = chain(0), torch.tensor([True, False, True, True])
    before = copy.deepcopy(model.state_dict())
    for other in (remove_channels(model, "0", keep), zero_channels(model, "0", keep)):
        for parameter in other.parameters():
            parameter.data.fill_(9)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_the_smaller_network_trains_and_frozen_stays_frozen():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    model[0].weight.requires_grad_(False)
    smaller = remove_channels(model, "0", torch.tensor([True, False, True]))
    smaller(torch.ones(4, 2)).sum().backward()
    assert not smaller[0].weight.requires_grad and smaller[2].weight.grad.shape == (1, 2)


def test_a_masked_network_is_cut_after_make_permanent():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    attach_masks(model, {"0.weight": torch.ones(3, 2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="make_permanent"):
        remove_channels(model, "0", torch.tensor([True, False, True]))
    make_permanent(model)
    assert remove_channels(model, "0", torch.tensor([True, False, True]))[0].out_features == 2


def linear(*between):
    return nn.Sequential(nn.Linear(4, 4), *between, nn.Linear(4, 4))


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("model", "name", "says"),
    [
        (linear(), "7", "no layer '7'; it has 0, 1"),
        (linear(nn.ReLU()), "1", "only Linear and Conv2d"),
        (linear(), "1", "network's answer"),
        (linear(nn.Sigmoid()), "0", "Sigmoid"),
        (linear(nn.LayerNorm(4)), "0", "LayerNorm"),
        (linear(nn.Sequential(nn.ReLU())), "0", "Sequential"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 4, 1)), "0", "2 groups"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=4)), "0", "4 groups"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Linear(4, 4)), "0", "does not see the channels"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(2), nn.Linear(4, 4)), "0", "Flatten"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 4)), "0", "after Flatten"),
        (nn.Sequential(nn.Linear(4, 4), nn.Linear(8, 4)), "0", "takes 8 inputs"),
        (nn.Sequential(SHARED, nn.ReLU(), SHARED), "0", "at two places"),
    ],
)
@pytest.mark.parametrize("function", [remove_channels, zero_channels])
def test_networks_that_cannot_be_cut_are_refused_in_words(model, name, says, function):
    with pytest.raises(ValueError, match=says):
        function(model, name, torch.tensor([True, True, False, True]))


@pytest.mark.parametrize(
    ("keep", "error", "says"),
    [
        (torch.zeros(4, dtype=torch.bool), ValueError, "cuts the network in two"),
        (torch.ones(3, dtype=torch.bool), ValueError, "must hold 4 booleans"),
        (torch.ones(4), ValueError, "booleans"),
        ([True] * 4, TypeError, "torch.Tensor"),
    ],
)
def test_a_keep_that_fits_no_layer_is_refused_in_words(keep, error, says, as_a_user):
    with pytest.raises(error, match=says):
        remove_channels(linear(), "0", keep)
