"""The interactive figure of chapter 3.2, moved without a front end."""

import ipywidgets as widgets
import pytest
import torch
from torch import nn

from course_lib.measure import n_errors
from course_lib.quantization import fake_quantize_weights, quantized_bits, rate_gap_bits, signal_to_noise_db
from course_lib.widgets.quantization import quantization_explorer, quantization_values, quantized_copy


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4)).eval()
    X = torch.randn(200, 12)
    return model, X, model(X).argmax(1).detach()  # the dense network is right everywhere


def parts(box):
    """The widgets of each kind, in the order they stand."""
    found = []

    def walk(widget):
        found.append(widget)
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(box)
    return {kind: [w for w in found if type(w) is kind] for kind in map(type, found)}


@pytest.mark.parametrize("granularity", ["tensor", "row", "group"])
def test_values_are_those_of_the_library(granularity):
    W = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    values = quantization_values(W, 3, granularity, 8)
    W_hat = fake_quantize_weights(W, 3, True, granularity, 8)
    bits = quantized_bits((6, 40), 3, True, granularity, 8)
    D = float((W - W_hat).double().square().sum() / W.double().square().sum())
    assert values.rate_bits == bits / 240 and values.size_bytes == -(-bits // 8)
    assert values.distortion == pytest.approx(D, rel=1e-6) and values.bound == 4 ** -(bits / 240)
    assert values.gap_bits == pytest.approx(rate_gap_bits(D, bits / 240), abs=1e-6)
    assert values.snr_db == signal_to_noise_db(W, W_hat)


def test_the_copy_is_quantized_and_the_model_is_not(setting):
    model, _, _ = setting
    before = model[0].weight.clone()
    copied = quantized_copy(model, 3, "row")
    assert model[0].weight.equal(before) and copied[0].bias.equal(model[0].bias)
    assert copied[0].weight.equal(fake_quantize_weights(before, 3, granularity="row"))


def test_the_sliders_move_text_and_picture(setting):
    model, X, labels = setting
    by_kind = parts(quantization_explorer(model, X, labels))
    (bits,), (granularity, clip) = by_kind[widgets.IntSlider], by_kind[widgets.ToggleButtons]
    (group_size,), (picture,), (text,) = by_kind[widgets.SelectionSlider], by_kind[widgets.Image], by_kind[widgets.HTML]
    assert bytes(picture.value).startswith(b"\x89PNG") and group_size.disabled
    for n_bits, grain, group, range_ in [(2, "tensor", 32, "max"), (3, "group", 8, "mse")]:
        old = bytes(picture.value)
        bits.value, granularity.value, group_size.value, clip.value = n_bits, grain, group, range_
        wrong = n_errors(quantized_copy(model, n_bits, grain, group, range_), X, labels)
        values = quantization_values(model[0].weight.detach(), n_bits, grain, group, range_)
        assert bytes(picture.value) != old and group_size.disabled == (grain != "group")
        assert f"{values.rate_bits:.3f} bits" in text.value and f"{values.gap_bits:.2f} bits above" in text.value
        assert f"Accuracy {1 - wrong / 200:.2%} (dense 100.00%) on 200 images" in text.value


def test_the_same_setting_gives_the_same_picture(setting):
    by_kind = parts(quantization_explorer(*setting))
    (bits,), (picture,) = by_kind[widgets.IntSlider], by_kind[widgets.Image]
    first = bytes(picture.value)
    bits.value = 6
    assert bytes(picture.value) != first
    bits.value = 4
    assert bytes(picture.value) == first


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, X, y: quantization_values(torch.zeros(2, 2), 4), "no signal"),
        (lambda m, X, y: quantization_values(torch.ones(2, 2), 4, "column"), "granularity"),
        (lambda m, X, y: quantization_explorer(m, X, y, layer="1"), "no linear layer"),
        (lambda m, X, y: quantization_explorer(m, X[0], y), "dimension"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, setting, call, says):
    with pytest.raises(ValueError, match=says):
        call(*setting)
