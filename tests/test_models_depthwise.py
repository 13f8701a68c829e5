"""The depthwise network of chapter 4.2: `depthwise_cnn` in course_lib/models.py."""

import pytest
import torch
from torch import nn

from course_lib.measure import n_parameters
from course_lib.models import depthwise_cnn


def test_parameters_counted_by_hand():
    """3x3 kernels a channel, 1x1 between channels, two numbers a normalization, one linear layer with biases."""
    convolutions = 16 * 9 + (16 * 9 + 16 * 32) + 2 * (32 * 9 + 32 * 32)
    normalizations = 2 * (16 + 16 + 32 + 4 * 32)
    assert n_parameters(depthwise_cnn()) == convolutions + normalizations + 32 * 10 + 10 == 4138


def test_depthwise_and_pointwise_layers_alternate():
    kinds = [(m.kernel_size[0], m.groups) for m in depthwise_cnn(8) if isinstance(m, nn.Conv2d)]
    assert kinds == [(3, 1), (3, 4), (1, 1), (3, 8), (1, 1), (3, 8), (1, 1)]


def test_images_become_ten_logits_and_the_maps_shrink_to_seven():
    model = depthwise_cnn(8).eval()
    x = torch.rand(3, 784)
    assert model(x).shape == (3, 10) and model[:10](x).shape[2:] == (7, 7)


def test_the_seed_decides_and_the_global_state_does_not_move():
    state = torch.random.get_rng_state()
    a, b, c = depthwise_cnn(seed=1), depthwise_cnn(seed=1), depthwise_cnn(seed=2)
    assert torch.random.get_rng_state().equal(state)
    assert all(v.equal(b.state_dict()[k]) for k, v in a.state_dict().items()) and not a[1].weight.equal(c[1].weight)


@pytest.mark.parametrize("width", [3, 0, 2.5])
def test_a_width_that_has_no_half_is_refused(as_a_user, width):
    with pytest.raises(ValueError, match="width must be"):
        depthwise_cnn(width)
