"""Counts: equal to hand counts of the LeNets, to torch's own counter, and to what the layers really use."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.utils.flop_counter import FlopCounterMode

from course_lib.measure import dense_bytes, macs, n_nonzero, n_parameters, sparsity


def caffe_lenet_5():
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def lenet_300_100():
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def test_the_lenets_have_the_published_numbers_of_parameters():
    assert (n_parameters(lenet_300_100()), n_parameters(caffe_lenet_5())) == (266_610, 431_080)
    assert dense_bytes(lenet_300_100()) == 1_066_440 and dense_bytes(caffe_lenet_5(), n_bits=8) == 431_080


def test_macs_of_the_lenets_are_the_hand_counts():
    """conv1: 24*24*20 outputs of 25 terms; conv2: 8*8*50 of 20*25; then 800*500 and 500*10."""
    counts = macs(caffe_lenet_5(), torch.zeros(1, 1, 28, 28))
    assert counts == {"0": 288_000, "2": 1_600_000, "5": 400_000, "7": 5_000} and sum(counts.values()) == 2_293_000
    assert sum(macs(lenet_300_100(), torch.zeros(1, 784)).values()) == 266_200


up_to_3, up_to_2 = st.integers(1, 3), st.integers(1, 2)


@settings(max_examples=15)  # torch's counter takes 0.1 s a model
@given(up_to_3, up_to_3, up_to_3, up_to_2, st.integers(0, 2), up_to_2, up_to_3)
def test_macs_are_half_of_torchs_flops(batch, n_in, n_out, stride, padding, groups, kernel):
    """torch's dispatcher counts a multiplication and an addition as two operations."""
    model = nn.Sequential(
        nn.Conv2d(n_in * groups, n_out * groups, (kernel, 2), stride=stride, padding=padding, groups=groups),
        nn.Flatten(2),
        nn.LazyLinear(3),
    )
    x = torch.zeros(batch, n_in * groups, 6, 7)
    model(x)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert 2 * sum(macs(model, x).values()) == counter.get_total_flops()


def test_a_layer_used_twice_counts_twice_in_macs_and_once_in_parameters():
    layer = nn.Linear(4, 4, bias=False)
    model = nn.Sequential(layer, layer)
    assert n_parameters(model) == 16 and sum(macs(model, torch.zeros(3, 4)).values()) == 2 * 3 * 16
    tied = nn.Sequential(layer, nn.Linear(4, 4, bias=False))
    tied[1].weight = layer.weight  # two layers, one tensor, as in a language model whose output reuses its embedding
    assert n_parameters(tied) == 16


def test_inputs_of_any_rank_and_one_dimensional_convolutions_count():
    """A Linear on (B, T, in) makes B T inner products for each of its outputs."""
    assert macs(nn.Linear(5, 7), torch.zeros(2, 3, 5)) == {"": 2 * 3 * 5 * 7}
    assert macs(nn.Conv1d(2, 3, 4), torch.zeros(1, 2, 10)) == {"": 3 * 7 * 2 * 4}


def test_macs_leave_modes_hooks_and_running_means_as_they_were():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[0].eval()
    before = model[1].running_mean.clone()
    assert macs(model, torch.ones(4, 3)) == macs(model, torch.ones(4, 3))
    assert model.training and not model[0].training and model[1].running_mean.equal(before)
    assert not model[0]._forward_hooks


def test_hooks_go_away_even_when_the_model_fails():
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        macs(model, torch.zeros(1, 4))
    assert not model[0]._forward_hooks and model.training


@given(st.integers(0, 12))
def test_sparsity_and_nonzero_count_zeros_of_weights_and_biases(n_zero):
    model = nn.Linear(3, 3)
    with torch.no_grad():
        flat = torch.ones(12)
        flat[:n_zero] = 0
        model.weight.copy_(flat[:9].view(3, 3))
        model.bias.copy_(flat[9:])
    assert n_nonzero(model) == 12 - n_zero and abs(sparsity(model) - n_zero / 12) < 1e-15


class _Mask(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = nn.Parameter(mask.float())  # a parameter of the parametrization: not a weight of the network

    def forward(self, W):
        return W * self.mask


def test_what_counts_is_what_the_layer_computes_with():
    """The hidden original of a masked layer is dense; the layer multiplies with the masked value."""
    mask = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    parametrized, pruned = nn.Linear(2, 2), nn.Linear(2, 2)
    parametrize.register_parametrization(parametrized, "weight", _Mask(mask))
    prune.custom_from_mask(pruned, "weight", mask)
    for model in (parametrized, pruned):
        assert n_parameters(model) == 6 and n_nonzero(model) == 1 + 2 and sparsity(model) == 0.5


def test_weight_norm_counts_the_weight_and_not_its_two_factors():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    assert n_parameters(model) == 16


def test_bytes_round_up_to_whole_bytes():
    assert [dense_bytes(nn.Linear(1, 1), n_bits=b) for b in (1, 3, 4, 5, 32)] == [1, 1, 1, 2, 8]


def test_models_without_parameters_and_bad_input(as_a_user):
    assert n_parameters(nn.ReLU()) == n_nonzero(nn.ReLU()) == dense_bytes(nn.ReLU()) == 0
    with pytest.raises(ValueError, match="no parameters"):
        sparsity(nn.ReLU())
    with pytest.raises(ValueError, match="n_bits"):
        dense_bytes(nn.Linear(1, 1), n_bits=0)
    for function in (n_parameters, n_nonzero, sparsity, dense_bytes):
        with pytest.raises(TypeError, match=r"nn\.Module"):
            function(torch.zeros(3))
    with pytest.raises(TypeError, match=r"nn\.Module"):
        macs(torch.relu, torch.zeros(1))
    with pytest.raises(ValueError, match="empty"):
        macs(nn.Linear(1, 1), torch.zeros(0, 1))
