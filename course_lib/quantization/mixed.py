r"""Mixed precision: how many bits each layer gets, by measured sensitivity, under a byte budget (section 4.2).

Layers differ: a layer with few weights costs few bytes at 8 bits, and one layer may suffer from 3 bits where another does not.
So measure first, then choose:

    (1)  L_l(b)  =  loss with layer l alone at b bits  -  loss of the float network       sensitivity, on calibration data
    (2)  minimize  sum_l L_l(b_l)     subject to     sum_l bytes_l(b_l)  <=  budget       over all choices b_1, b_2, ...

(2) assumes that damages add up, which they do while they are small. It is a multiple-choice knapsack. With few layers it is
solved exactly: walk over the layers and keep, of all partial choices, those that no other beats in both bytes and loss.

    (3)  front(1..l)  =  the undominated of { (bytes + bytes_l(b), loss + L_l(b)) : (bytes, loss) in front(1..l-1), b }

A dominated partial choice can be replaced by its better in any complete one, so nothing is lost. Left out: second-order
estimates of (1) (HAWQ uses the largest Hessian eigenvalues), learned bit widths, bits of activations.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from course_lib._check import check_count, check_n_bits, check_number
from course_lib.quantization.granularity import fake_quantize_weights, quantized_bits

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def quantize_layers(model: nn.Module, bits: int | Mapping[str, int], granularity: str = "row", clip: str = "max") -> nn.Module:
    r"""A copy of the network whose weights lie on grids of the given bits; biases stay.

    $$ W_l \leftarrow \hat W_l = s_l\, \mathrm{clip}(\mathrm{round}(W_l / s_l)), \qquad b_l \text{ bits} $$

    where the grid is symmetric, one scale a tensor or a row. This is listing 4.2 mended: it touches linear layers and
    convolutions, however deep they lie, and nothing else; the scale is kept (in the values); a bias is left to the accumulator.

    bits: one number for all layers, or {name of a layer: bits}; a layer that is not named stays in floating point.
    Returns a new model; the given one is not changed.
    Raises ValueError for an unknown layer, an impossible number of bits, a model without layers, a parametrized weight.
    Source: the document, listing 4.2, mended; Krishnamoorthi 2018, section 3.1.  Notebook: 04_2_quantization_in_practice.
    """
    layers = _layers("quantize_layers", model)
    chosen = dict.fromkeys(layers, bits) if not isinstance(bits, Mapping) else dict(bits)
    if unknown := sorted(set(chosen) - set(layers)):
        raise ValueError(f"quantize_layers: the model has no layer {unknown}; known: {list(layers)}")
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, b in chosen.items():
            layer = copied.get_submodule(name)
            layer.weight.copy_(fake_quantize_weights(layer.weight, b, True, granularity, clip=clip))
    return copied


def layer_bytes(model: nn.Module, bits: int | Mapping[str, int], granularity: str = "row") -> dict[str, int]:
    r"""Bytes of each layer's packed weights and scales at the given bits; biases, equal for every choice, are not counted.

    $$ \text{bytes}_l = \lceil (n_l\, b_l + 16\, n_{s,l}) / 8 \rceil $$

    where $n_l$ is the number of weights and $n_{s,l}$ that of scales.

    bits: one number for all layers, or one for each.  Returns {name: bytes}.
    Raises ValueError for a layer without bits, or as `quantized_bits`.
    Source: counting.  Notebook: 04_2_quantization_in_practice.
    """
    layers = _layers("layer_bytes", model)
    chosen = dict.fromkeys(layers, bits) if not isinstance(bits, Mapping) else dict(bits)
    if set(chosen) != set(layers):
        raise ValueError(f"layer_bytes: bits are needed for exactly these layers: {list(layers)}, got {list(chosen)}")
    shapes = {name: tuple(layer.weight.shape) for name, layer in layers.items()}
    return {name: -(-quantized_bits(shapes[name], chosen[name], granularity=granularity) // 8) for name in layers}


def sensitivities(
    model: nn.Module,
    loss: Callable[[nn.Module], float],
    bits: Sequence[int] = (2, 3, 4, 5, 6, 8),
    granularity: str = "row",
    clip: str = "max",
) -> dict[str, dict[int, float]]:
    r"""What each layer loses at each number of bits, all others in floating point, equation (1).

    $$ L_l(b) = \mathrm{loss}(W_1, \dots, \hat W_l(b), \dots) - \mathrm{loss}(W_1, \dots, W_l, \dots) $$

    loss: a function of a network that returns a number, smaller is better; give it training images, never test images.
    Returns {layer: {bits: increase}}; an increase below 0 (luck on few samples) is kept as measured.
    Raises ValueError for no bits, impossible bits, a model without layers, or a loss that is not finite.
    Source: Wang et al. 2019 (HAQ) and Cai et al. 2020 (ZeroQ), section 3.2, for the measurement.
    Notebook: 04_2_quantization_in_practice.
    """
    layers = _layers("sensitivities", model)
    if len(bits) == 0:
        raise ValueError("sensitivities: no bits were given; pass for example (2, 3, 4, 8)")
    for b in bits:
        check_n_bits("sensitivities", b, 2, 16)
    found: dict[str, dict[int, float]] = {}
    base = _finite(loss(model))
    for name in layers:
        quantized = ((b, quantize_layers(model, {name: b}, granularity, clip)) for b in bits)
        found[name] = {b: _finite(loss(network)) - base for b, network in quantized}
    return found


def allocate_bits(
    costs: Mapping[str, Mapping[int, float]], sizes: Mapping[str, Mapping[int, int]], budget_bytes: int
) -> dict[str, int]:
    r"""The bits of each layer with the least sum of losses whose bytes fit into the budget, exactly, equations (2) and (3).

    $$ \min_{b_1, b_2, \dots} \sum_l L_l(b_l) \quad\text{subject to}\quad \sum_l \text{bytes}_l(b_l) \le \text{budget} $$

    where $L_l(b)$ = `costs[l][b]` and $\text{bytes}_l(b)$ = `sizes[l][b]`; both name the same layers and bits.

    Of choices with equal loss the one of fewer bytes is returned.  Returns {layer: bits}.
    Raises ValueError for tables that do not match or are empty, a cost that is not finite, a negative size, or a budget that
    even the smallest choice exceeds.
    Source: multiple-choice knapsack, Kellerer, Pferschy and Pisinger 2004, section 11.5.
    Notebook: 04_2_quantization_in_practice.
    """
    who = "allocate_bits"
    check_count(who, "budget_bytes", budget_bytes, low=0)
    if not costs or {k: set(v) for k, v in costs.items()} != {k: set(v) for k, v in sizes.items()}:
        raise ValueError(f"{who}: costs and sizes must name the same layers and the same bits, at least one")
    front: list[tuple[int, float, dict[str, int]]] = [(0, 0.0, {})]
    for name, by_bits in costs.items():
        if not by_bits:
            raise ValueError(f"{who}: layer {name!r} has no choice of bits")
        for b in by_bits:
            check_number(who, f"costs[{name!r}][{b}]", by_bits[b])
            check_count(who, f"sizes[{name!r}][{b}]", sizes[name][b], low=0)
        longer = [
            (size + sizes[name][b], loss + by_bits[b], chosen | {name: b}) for size, loss, chosen in front for b in by_bits
        ]
        front = _undominated(longer)
    fitting = [choice for choice in front if choice[0] <= budget_bytes]
    if not fitting:
        raise ValueError(f"{who}: {budget_bytes} bytes are too few; the smallest choice needs {front[0][0]}")
    return fitting[-1][2]  # along the front more bytes mean less loss


def _undominated(choices: list[tuple[int, float, dict[str, int]]]) -> list[tuple[int, float, dict[str, int]]]:
    """By rising bytes, strictly falling loss."""
    front: list[tuple[int, float, dict[str, int]]] = []
    for choice in sorted(choices, key=lambda c: c[:2]):
        if not front or choice[1] < front[-1][1]:
            front.append(choice)
    return front


def _finite(value: float) -> float:
    check_number("sensitivities", "the loss", float(value))
    return float(value)


def _layers(who: str, model: nn.Module) -> dict[str, nn.Module]:
    """All layers whose weight can be quantized, by name."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: model must be a torch.nn.Module, got {type(model).__name__}")
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
    if not layers:
        raise ValueError(f"{who}: the model has no Linear or Conv layer")
    if any(parametrize.is_parametrized(layer, "weight") for layer in layers.values()):
        raise ValueError(f"{who}: a weight is parametrized; call make_permanent(model) first")
    return layers
