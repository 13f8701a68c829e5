"""The interactive figure of chapter 4.2, moved without a front end."""

import ipywidgets as widgets
import pytest
import torch
from torch import nn

from course_lib.measure import accuracy
from course_lib.quantization import quantize_layers
from course_lib.widgets.practice_quantization import equalization_explorer, equalization_values, spread_channels


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    X = torch.randn(300, 12)
    return model, X, model(X).argmax(1).detach()  # the float network is right everywhere


def parts(box):
    found = []

    def walk(widget):
        found.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(box)
    return {kind: [w for w in found if type(w) is kind] for kind in map(type, found)}


def test_spreading_keeps_the_function_and_the_factors_stay_in_their_octaves(setting):
    model, X, _ = setting
    spread = spread_channels(model, 3)
    assert spread(X).allclose(model(X), atol=1e-4) and spread_channels(model, 0)[0].weight.equal(model[0].weight)
    factor = (model[0].weight / spread[0].weight)[:, 0].log2().abs()
    assert 1.5 < factor.max() <= 3.0001 and spread[0].weight.equal(spread_channels(model, 3)[0].weight)


def test_values_are_those_of_the_library(setting):
    model, X, labels = setting
    values = equalization_values(model, X, labels, 4, 4, layer=1)
    spread = spread_channels(model, 4)
    W = spread[2].weight.detach()
    ranges = W.abs().amax(1)
    step = float(W.abs().max()) / 7
    assert values.ranges.equal(ranges) and values.step == pytest.approx(step)
    assert values.ratio == pytest.approx(float(ranges.max() / ranges.sort().values[3]))
    assert values.lost == float((ranges < step / 2).double().mean()) > 0
    assert values.lost < float((ranges < step).double().mean())  # half a step, not a whole one
    assert values.accuracy == accuracy(quantize_layers(spread, 4, "tensor"), X, labels)


def test_equalization_takes_the_spread_back(setting):
    model, X, labels = setting
    spread, even = (equalization_values(model, X, labels, 5, 8, equalized, 1) for equalized in (False, True))
    assert even.ratio < spread.ratio and even.accuracy > spread.accuracy


def test_the_sliders_move_text_and_picture(setting):
    model, X, labels = setting
    by_kind = parts(equalization_explorer(model, X, labels, 1))
    (octaves,), (bits,), (even,) = by_kind[widgets.FloatSlider], by_kind[widgets.IntSlider], by_kind[widgets.ToggleButtons]
    (picture,), (text,) = by_kind[widgets.Image], by_kind[widgets.HTML]
    assert bytes(picture.value).startswith(b"\x89PNG")
    for setting_of in ((4.0, 6, False), (4.0, 6, True)):
        old = bytes(picture.value)
        octaves.value, bits.value, even.value = setting_of
        values = equalization_values(model, X, labels, *setting_of, 1)
        assert bytes(picture.value) != old and f"{values.accuracy:.2%}" in text.value and f"{values.ratio:.1f}" in text.value


@pytest.mark.parametrize(
    ("change", "says"), [({"octaves": -1.0}, "octaves"), ({"n_bits": 1}, "n_bits"), ({"layer": 9}, "no layer 9")]
)
def test_bad_settings_are_refused_in_words(as_a_user, setting, change, says):
    with pytest.raises(ValueError, match=says):
        equalization_values(*setting, **({"octaves": 1.0, "layer": 1} | change))
