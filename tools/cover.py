"""Draw the README's picture, docs/three_ideas.png: what each method of section 3 does to one trained network.

    python tools/cover.py        about 10 s; the network is trained first where the cache lacks it

Every curve is measured on the 10,000 test digits with LeNet-300-100, after the methods of the library and without fine-tuning.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import nn

from course_lib import plots
from course_lib.data import Digits, mnist
from course_lib.distillation import soft_targets
from course_lib.measure import accuracy, predict
from course_lib.pretrained import trained
from course_lib.pruning import global_masks, magnitude_score, prunable_weights, random_score
from course_lib.quantization import fake_quantize_weights, round_to_integer

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "three_ideas.png"
SPARSITIES = [0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98]
BITS = range(2, 9)


def accuracy_with(model: nn.Module, digits: Digits, change) -> float:
    """Test accuracy in percent after every prunable weight W became change(name, W)."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, W in prunable_weights(changed).items():
            W.copy_(change(name, W))
    return 100 * accuracy(changed, digits.test_images, digits.test_labels)


def draw_pruning(axes, model: nn.Module, digits: Digits) -> None:
    """Accuracy against the share of zeros: smallest magnitudes first, and at random as the control."""
    weights, generator = prunable_weights(model), torch.Generator().manual_seed(0)
    orders = {
        "smallest first": {name: magnitude_score(W) for name, W in weights.items()},
        "at random": {name: random_score(W, generator) for name, W in weights.items()},
    }
    for (label, scores), marker in zip(orders.items(), plots.MARKERS):
        measured = []
        for sparsity in SPARSITIES:
            masks = global_masks(scores, sparsity)
            measured.append(accuracy_with(model, digits, lambda name, W, masks=masks: W * masks[name]))
        axes.plot([100 * p for p in SPARSITIES], measured, marker=marker, label=label)
    axes.set(title="Pruning", xlabel="weights removed (%)", ylabel="test accuracy (%)", ylim=(0, 103))
    axes.legend(loc="lower left")


def draw_quantization(axes, model: nn.Module, digits: Digits) -> None:
    """Accuracy against the bits a weight: one scale a tensor, one a row, and the document's rounding, which has no scale."""
    for granularity, marker in zip(("row", "tensor"), plots.MARKERS):
        measured = []
        for n_bits in BITS:
            rounding = partial(fake_quantize_weights, n_bits=n_bits, granularity=granularity)
            measured.append(accuracy_with(model, digits, lambda _, W, rounding=rounding: rounding(W)))
        axes.plot(list(BITS), measured, marker=marker, label=f"one scale a {granularity}")
    rounded = accuracy_with(model, digits, lambda _, W: round_to_integer(W))
    axes.axhline(rounded, linestyle=":", color="black", label="round(w), no scale")
    axes.set(title="Quantization", xlabel="bits a weight", ylim=(0, 103), xticks=list(BITS))
    axes.legend(loc="center right")


def draw_distillation(axes, model: nn.Module, digits: Digits) -> None:
    """What the network says of one digit at two temperatures: the soft targets that a student learns from."""
    logits = predict(model, digits.test_images)
    fours = torch.where(digits.test_labels == 4)[0]
    unsure = fours[logits[fours].softmax(1)[:, 9].sub(0.05).abs().argmin()]  # right, with a good part for 9
    for T, shift, color in ((1, -0.2, plots.COLORS[0]), (4, 0.2, plots.COLORS[1])):
        p = soft_targets(logits[unsure][None], T)[0]
        axes.bar([c + shift for c in range(10)], (100 * p).tolist(), width=0.4, color=color, label=f"temperature {T}")
    picture = axes.inset_axes((0.04, 0.5, 0.32, 0.46))
    picture.imshow(digits.test_images[unsure].view(28, 28), cmap="gray_r")
    picture.set(xticks=[], yticks=[])
    picture.grid(False)
    axes.set(title="Distillation", xlabel="digit", ylabel="soft target (%)", xticks=range(10), ylim=(0, 103))
    axes.legend(loc="upper right")


def main() -> None:
    """Measure, draw, save."""
    torch.set_num_threads(1)
    plots.use_course_style()
    import matplotlib.pyplot as plt

    digits, model = mnist(), trained("lenet_300_100")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
    draw_pruning(left, model, digits)
    draw_quantization(middle, model, digits)
    draw_distillation(right, model, digits)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"wrote {PICTURE.name}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
