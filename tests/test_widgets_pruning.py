"""The interactive figure of chapter 3.1, without a front end: set a value, look at the numbers and the picture."""

import copy
import re

import pytest
import torch

from course_lib.models import mlp
from course_lib.pruning import prunable_weights
from course_lib.widgets.pruning import threshold_explorer, threshold_values


@pytest.fixture
def network():
    """A small network and images that it classifies by definition: all accuracies start at 1."""
    model, X = mlp(12, 8, 10), torch.randn(200, 12)
    return model, X, model(X).argmax(1).detach()


def by_hand(model, X, labels, c, layer):
    """Eq. (1) and (2) on a copy, weight by weight."""
    other, n_gone, n = copy.deepcopy(model), 0, 0
    for name, W in prunable_weights(other).items():
        if layer in ("all layers", name):
            mean = sum(abs(w) for w in W.flatten().tolist()) / W.numel()
            gone = torch.tensor([abs(w) < c * mean for w in W.flatten().tolist()]).reshape(W.shape)
            W[gone] = 0
            n_gone, n = n_gone + int(gone.sum()), n + W.numel()
    return n_gone / n, (other(X).argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("layer", ["all layers", "0.weight", "2.weight"])
@pytest.mark.parametrize("c", [0.0, 0.7, 1.3, 3.0])
def test_the_numbers_are_those_of_a_network_pruned_by_hand(network, c, layer):
    assert threshold_values(*network, c, layer) == pytest.approx(by_hand(*network, c, layer), abs=1e-12)


def test_nothing_goes_at_zero_and_the_model_is_not_changed(network):
    before = copy.deepcopy(network[0].state_dict())
    assert threshold_values(*network, 0.0) == (0.0, 1.0)
    threshold_values(*network, 2.0)
    assert all(value.equal(before[name]) for name, value in network[0].state_dict().items())


def test_moving_the_slider_changes_text_and_picture_to_the_right_numbers(network):
    box = threshold_explorer(*network)
    (slider, names), text, image = box.children[0].children, box.children[1], box.children[2]
    for c, layer in ((2.0, "all layers"), (2.0, "2.weight"), (0.5, "2.weight")):
        picture = bytes(image.value)
        slider.value, names.value = c, layer
        share, right = by_hand(*network, c, layer)
        assert [float(v) for v in re.findall(r"([\d.]+)%", text.value)] == pytest.approx([100 * share, 100 * right], abs=0.051)
        assert f"c = {c}" in text.value and layer in text.value and bytes(image.value) != picture
        assert bytes(image.value).startswith(b"\x89PNG")


def test_a_layer_of_zeros_can_be_shown(network):
    model, X, labels = network
    torch.nn.init.zeros_(model[2].weight)
    assert "0.0% of 2.weight go" in _text_after(threshold_explorer(model, X, labels), "2.weight")


def _text_after(box, layer):
    box.children[0].children[1].value = layer
    return box.children[1].value


@pytest.mark.parametrize(("c", "layer", "says"), [(-1.0, "all layers", "c must be >= 0"), (1.0, "1.weight", "unknown layer")])
def test_bad_values_are_refused_in_words(network, c, layer, says):
    with pytest.raises(ValueError, match=says):
        threshold_values(*network, c, layer)
