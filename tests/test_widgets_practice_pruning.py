"""The interactive figure of chapter 4.1, without a front end: set a value, look at the numbers and the picture."""

import copy
import re

import pytest
import torch

from course_lib.models import mlp
from course_lib.pruning import prunable_weights
from course_lib.widgets.practice_pruning import budget_explorer, budget_figure, budget_values


@pytest.fixture
def network():
    """A small network and images that it classifies by definition: all accuracies start at 1."""
    model, X = mlp(12, 8, 10), torch.randn(200, 12)
    return model, X, model(X).argmax(1).detach()


SCAN = {"0.weight": {0.0: 0.0, 1.0: 0.9}, "2.weight": {0.0: 0.0, 0.5: 0.1, 1.0: 0.9}}


def by_hand(model, X, labels, budgets):
    """Eq. (1) and (2) on a copy: sort, and set the smallest to zero."""
    other, n_gone, n = copy.deepcopy(model), 0, 0
    for name, W in prunable_weights(other).items():
        places = sorted(range(W.numel()), key=lambda i, w=W: abs(w.view(-1)[i].item()))[: round(budgets[name] * W.numel())]
        W.view(-1)[places] = 0
        n_gone, n = n_gone + len(places), n + W.numel()
    return n_gone / n, (other(X).argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("budgets", [(0.0, 0.0), (0.9, 0.1), (0.1, 0.9), (1.0, 1.0)])
def test_the_numbers_are_those_of_a_network_pruned_by_hand(network, budgets):
    budgets = dict(zip(SCAN, budgets))
    assert budget_values(*network, budgets) == pytest.approx(by_hand(*network, budgets), abs=1e-12)


def test_the_model_is_not_changed_and_twice_is_the_same(network):
    before, budgets = copy.deepcopy(network[0].state_dict()), dict.fromkeys(SCAN, 0.7)
    assert budget_values(*network, budgets) == budget_values(*network, budgets)
    assert all(value.equal(before[name]) for name, value in network[0].state_dict().items())


def test_moving_a_slider_changes_text_and_picture_to_the_right_numbers(network):
    box = budget_explorer(*network, SCAN, start=0.5)
    sliders, text, image = box.children[0].children, box.children[1], box.children[2]
    for first, second in ((0.5, 0.9), (0.2, 0.9), (1.0, 0.0)):
        picture = bytes(image.value)
        sliders[0].value, sliders[1].value = first, second
        share, right = by_hand(*network, {"0.weight": first, "2.weight": second})
        assert [float(v) for v in re.findall(r"([\d.]+)%", text.value)] == pytest.approx([100 * share, 100 * right], abs=0.051)
        assert "200 images" in text.value and bytes(image.value) != picture
        assert bytes(image.value).startswith(b"\x89PNG")


def test_the_figure_shows_scan_choice_and_curve():
    figure = budget_figure(SCAN, {"0.weight": 0.4, "2.weight": 0.7}, 0.45, 0.8, {0.0: 1.0, 0.9: 0.3})
    left, right = figure.axes
    assert [line.get_xdata()[0] for line in left.lines if line.get_linestyle() == ":"] == pytest.approx([40, 70])
    assert list(left.lines[2].get_ydata()) == pytest.approx([0, 10, 90])
    assert list(right.lines[0].get_xdata()) == pytest.approx([0, 90]) and list(right.lines[1].get_xdata()) == pytest.approx(
        [45]
    )
    assert "45.0% go" in right.get_title()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net: budget_values(*net, {"0.weight": 0.5}), "the same layers"),
        (lambda net: budget_values(*net, dict.fromkeys(SCAN, 90)), "did you mean 0.9"),
        (lambda net: budget_explorer(*net, {"0.weight": SCAN["0.weight"]}), "scan this model"),
        (lambda net: budget_explorer(*net, SCAN, start=-1.0), "fraction in"),
    ],
)
def test_bad_values_are_refused_in_words(network, call, says):
    with pytest.raises(ValueError, match=says):
        call(network)
