r"""The interactive figure of chapter 00: prune and quantize one handwritten digit, and ask a network what it still sees.

An image is a matrix like a layer's weights, with one advantage: the eye judges the loss at once. Two sliders do to its pixels
what chapters 3.1 and 3.2 do to weights:

    (1)  M = the largest (1 - p) n pixels stay                     pruning by magnitude, sparsity p
    (2)  q = round(x / s),  s = 1 / (2^b - 1),  x_hat = s q        quantization to b bits, here of numbers in [0, 1]
    (3)  size_bytes = ceil( (n + b |M|) / 8 )                      one bit a pixel for the mask, b bits for each that stays

(3) is honest about the mask: where hardly anything is pruned, it costs more than it saves. The network that answers is
LeNet-300-100, trained on whole images; nobody told it that pixels would go missing.
"""

import math

import ipywidgets as widgets
import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib._check import check_tensor
from course_lib.plots import COLORS, digit_grid
from course_lib.pruning import magnitude_score, top_mask
from course_lib.quantization import choose_qparams, dequantize, quantize
from course_lib.widgets._base import figure_image, new_figure, update_image


def reduced_image(image: Float[Tensor, "n"], sparsity: float, n_bits: int) -> tuple[Float[Tensor, "n"], int]:
    r"""The image after pruning and quantizing, eqs. (1) and (2), and its size in bytes, eq. (3).

    $$ \hat x_i = s \,\mathrm{round}(x_i m_i / s), \qquad s = \frac{1}{2^b - 1} $$

    image: n pixels in [0, 1].  sparsity: fraction of pixels to erase, smallest first.  n_bits: b, 2 to 8.
    Raises ValueError for a pixel outside [0, 1], NaN, a sparsity outside [0, 1], or an impossible n_bits.
    Source: the document, sections 3.1 and 3.2, in their mended form.  Notebook: 00_start_here.
    """
    check_tensor("reduced_image", "image", image, ndim=1)
    if image.min() < 0 or image.max() > 1:
        raise ValueError(f"reduced_image: pixels lie in [0, 1], got {image.min():g} to {image.max():g}")
    mask = top_mask(magnitude_score(image), sparsity)
    s, z = choose_qparams(0.0, 1.0, n_bits, symmetric=False, signed=False)
    reduced = dequantize(quantize(image * mask, s, z, n_bits, signed=False), s, z)
    return reduced, math.ceil((mask.numel() + n_bits * int(mask.sum())) / 8)


@torch.no_grad()
def first_look_values(
    model: nn.Module, image: Float[Tensor, "n"], sparsity: float, n_bits: int
) -> tuple[Float[Tensor, "n"], int, Float[Tensor, "C"]]:
    """What the figure shows: (reduced image, its size in bytes, the probabilities that `model` gives to the classes).

    Raises as `reduced_image`.
    Source: this module's equations.  Notebook: 00_start_here.
    """
    reduced, size_bytes = reduced_image(image, sparsity, n_bits)
    return reduced, size_bytes, model(reduced[None]).softmax(dim=1)[0]


def first_look_figure(image: Tensor, reduced: Tensor, probabilities: Tensor):
    """Three panels: the image, what is left of it, and the probabilities of the ten digits; returns the Figure.

    Source: `digit_grid`.  Notebook: 00_start_here.
    """
    figure, (left, middle, right) = new_figure(3, (9, 3))
    for axes, pixels, title in ((left, image, "original"), (middle, reduced, "reduced")):
        digit_grid(pixels[None], ax=axes)
        axes.set_title(title)
    right.bar(range(len(probabilities)), (100 * probabilities).tolist(), color=COLORS[0])
    right.set(
        xlabel="digit", ylabel="probability (%)", ylim=(0, 100), xticks=range(len(probabilities)), title="the network says"
    )
    return figure


def first_look(model: nn.Module, images: Float[Tensor, "k n"], sparsity: float = 0.0, n_bits: int = 8) -> widgets.VBox:
    """Sliders for sparsity and bits, a choice of the image, a line with the numbers, and the three panels.

    Raises ValueError for a start value outside its slider.
    Source: this module's equations.  Notebook: 00_start_here.
    """
    reduced_image(images[0], sparsity, n_bits)  # refuses bad start values in words; the sliders would clip them
    which = widgets.Dropdown(options=range(len(images)), value=0, description="image")
    pruned = widgets.FloatSlider(value=sparsity, min=0, max=1, step=0.02, description="sparsity", continuous_update=False)
    bits = widgets.IntSlider(value=n_bits, min=2, max=8, description="bits", continuous_update=False)
    text = widgets.Label()

    def draw():
        image = images[which.value]
        reduced, size_bytes, probabilities = first_look_values(model, image, pruned.value, bits.value)
        answer = int(probabilities.argmax())
        text.value = (
            f"{pruned.value:.0%} of the pixels erased, {bits.value} bits each: {size_bytes} of {image.numel()} bytes; "
            f"the network reads a {answer} ({probabilities[answer]:.1%})"
        )
        return first_look_figure(image, reduced, probabilities)

    image_widget = figure_image(draw())
    for control in (which, pruned, bits):
        control.observe(lambda change: update_image(image_widget, draw()), names="value")
    return widgets.VBox([widgets.HBox([pruned, bits, which]), text, image_widget])
