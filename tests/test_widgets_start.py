"""The interactive figure of chapter 00, without a front end."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.models import mlp
from course_lib.widgets.start import first_look, first_look_values, reduced_image

images = st.integers(0, 2**31 - 1).map(lambda s: torch.rand(20, generator=torch.Generator().manual_seed(s)))


@given(images, st.floats(0, 1), st.integers(2, 8))
def test_pixels_are_the_formulas_spelled_out(image, sparsity, n_bits):
    """Eqs. (1) to (3) in loops: which pixels stay, the nearest multiple of s, the bits counted one by one."""
    n_gone, s = round(sparsity * 20), 1 / (2**n_bits - 1)
    gone = sorted(range(20), key=lambda i: (image[i].item(), i))[:n_gone]
    expected = [0.0 if i in gone else s * round(image[i].item() / s) for i in range(20)]
    got, size = reduced_image(image, sparsity, n_bits)
    assert torch.allclose(got, torch.tensor(expected), atol=s * 1e-3)
    bits = sum(1 + (n_bits if i not in gone else 0) for i in range(20))
    assert size == -(-bits // 8)


@given(images, st.integers(2, 8))
def test_no_pixel_moves_by_more_than_half_a_step(image, n_bits):
    """|x - x_hat| <= s/2, plus float32 rounding."""
    got, _ = reduced_image(image, 0.0, n_bits)
    assert (got - image).abs().max() <= 0.5 / (2**n_bits - 1) + 1e-6


def test_extremes_work():
    assert reduced_image(torch.zeros(8), 0.5, 2)[0].tolist() == [0] * 8
    assert reduced_image(torch.ones(8), 1.0, 8)[1] == 1 and not reduced_image(torch.ones(8), 1.0, 8)[0].any()
    assert reduced_image(torch.ones(1), 0.0, 8)[0].tolist() == [1.0]


def test_values_are_the_networks_own_probabilities_and_the_image_stays():
    model, image = mlp(20, 10), torch.rand(20)
    before = image.clone()
    reduced, _, probabilities = first_look_values(model, image, 0.3, 3)
    assert torch.allclose(probabilities, model(reduced[None]).softmax(1)[0]) and image.equal(before)


def test_each_control_changes_text_and_picture_to_the_right_numbers():
    model, digits = mlp(784, 10), torch.rand(3, 784)
    box = first_look(model, digits)
    (pruned, bits, which), text, picture = box.children[0].children, box.children[1], box.children[2]
    for control, value in ((pruned, 0.9), (bits, 3), (which, 2), (pruned, 0.5)):
        before = bytes(picture.value)
        control.value = value
        _, size, probabilities = first_look_values(model, digits[which.value], pruned.value, bits.value)
        found = re.match(
            r"(\d+)% of the pixels erased, (\d) bits each: (\d+) of 784 bytes; .* a (\d) \(([\d.]+)%\)", text.value
        )
        assert [int(found[k]) for k in (1, 2, 3, 4)] == [
            round(100 * pruned.value),
            bits.value,
            size,
            int(probabilities.argmax()),
        ]
        assert float(found[5]) == pytest.approx(100 * probabilities.max().item(), abs=0.051)
        assert bytes(picture.value) != before and bytes(picture.value[:4]) == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.rand(4), 50, 8), "fraction"),
        ((torch.rand(4), 0.5, 1), "n_bits"),
        ((torch.full((4,), 2.0), 0.5, 8), r"\[0, 1\]"),
        ((torch.tensor([float("nan")]), 0.5, 8), "1 NaN"),
    ],
)
def test_bad_input_is_refused_in_words(as_a_user, arguments, says):
    with pytest.raises(ValueError, match=says):
        reduced_image(*arguments)
