r"""Looking at what flows through a network: ranges and samples of its layers' inputs (section 4.2).

Weights are known before the network runs; activations are not. So a few hundred training images are sent through, and hooks
watch what enters each layer:

    (1)  (low, high)_l  =  observer( x_l(image 1), x_l(image 2), ... )             any observer of `quantization.observers`
    (2)  (s, z)_l       =  choose_qparams(low, high, n_bits)
    (3)  y  =  W patch + b   at each place of a convolution                    so its inputs are rows, like a linear layer's

(3) makes methods that were written for matrices (second moments, AdaRound) fit convolutions: `layer_inputs` returns those
rows. A convolution in g groups is g matrices side by side, each with its own inputs; a depthwise one has one a channel.

The images must be training images: a range chosen on the test set would be told what it is judged by. The network is run in
eval mode and left as it was, hooks taken off even if it fails halfway.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from course_lib._check import check_count, check_tensor
from course_lib.quantization.observers import MinMaxObserver

LAYERS = (nn.Linear, nn.Conv2d)


def observe_inputs(
    model: nn.Module,
    X: Float[Tensor, "n *shape"],
    make_observer: Callable = MinMaxObserver,
    layers: Iterable[str] | None = None,
    batch_size: int = 500,
) -> dict:
    r"""One observer for each named layer, after it has seen what enters that layer when the model runs on X, equation (1).

    $$ \mathrm{observer}_l \leftarrow x_l(X_1),\ x_l(X_2),\ \dots $$

    where $x_l$ is the input of layer l and $X_t$ a batch of `batch_size` samples.

    X: calibration samples, from the training set.  make_observer: a class or function that makes an observer.  layers: names as
    in `model.named_modules()`; all linear layers and two-dimensional convolutions if None.
    Returns {name: observer}, in the order of the model. The model is not changed.
    Raises ValueError for empty, NaN or infinite X, an unknown name, a model without layers, or a layer that the run never used.
    Source: Jacob et al. 2018, section 3.1; Krishnamoorthi 2018, section 3.1.  Notebook: 04_2_quantization_in_practice.
    """
    who = "observe_inputs"
    watched = _watched(who, model, layers)
    observers = {name: make_observer() for name in watched}
    seen = set()

    def look(name: str, x: Tensor) -> None:
        seen.add(name)
        observers[name].observe(x)

    _run(who, model, X, watched, look, batch_size)
    if missed := [name for name in watched if name not in seen]:
        raise ValueError(f"{who}: the run never came to layer {', '.join(missed)}")
    return observers


def input_qparams(
    model: nn.Module,
    X: Float[Tensor, "n *shape"],
    n_bits: int = 8,
    make_observer: Callable = MinMaxObserver,
    symmetric: bool = False,
    signed: bool = False,
    layers: Iterable[str] | None = None,
) -> dict[str, tuple[Float[Tensor, ""], Integer[Tensor, ""]]]:
    r"""Scale and zero point for the input of each layer, as `attach_input_quant` takes them, equation (2).

    $$ (s, z)_l = \mathrm{choose\_qparams}(low_l, high_l, b) $$

    where the range is that of `observe_inputs`.

    Returns {name: (s, z)}.  Raises ValueError as `observe_inputs`, and for an impossible `n_bits`.
    Source: Jacob et al. 2018, section 3.1.  Notebook: 04_2_quantization_in_practice.
    """
    observers = observe_inputs(model, X, make_observer, layers)
    return {name: observer.qparams(n_bits, symmetric, signed) for name, observer in observers.items()}


def layer_inputs(
    model: nn.Module, X: Float[Tensor, "n *shape"], layer: str, n_rows: int = 2000, seed: int = 0
) -> Float[Tensor, "groups rows inputs"]:
    r"""The inputs of one layer as rows of a matrix, a random sample of them, equation (3).

    $$ y = W p + b $$

    where $p$ is a row: the input of a linear layer, or the patch that a convolution sees at one place (zeros where it pads).

    layer: its name.  n_rows: how many rows are kept, drawn without replacement with `seed`; all if there are fewer.
    Returns (groups, rows, inputs a group): one group for a linear layer, one a channel for a depthwise convolution. Row r of
    each group comes from the same image and place.
    Raises ValueError for empty, NaN or infinite X, an unknown layer, one that is neither linear nor a two-dimensional
    convolution, or n_rows below 1.
    Source: im2col, Chellapilla et al. 2006.  Notebook: 04_2_quantization_in_practice.
    """
    who = "layer_inputs"
    check_count(who, "n_rows", n_rows)
    watched = _watched(who, model, [layer])
    pieces: list[Tensor] = []
    _run(who, model, X, watched, lambda name, x: pieces.append(_patches(watched[name], x)), 500)
    if not pieces:
        raise ValueError(f"{who}: the run never came to layer {layer}")
    rows = torch.cat(pieces, dim=1)  # (groups, rows, inputs)
    chosen = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(seed))[:n_rows]
    return rows[:, chosen.sort().values]


def _patches(layer: nn.Module, x: Tensor) -> Tensor:
    """(groups, rows, inputs of a group)."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)[None]
    if not isinstance(layer.padding, tuple) or layer.padding_mode != "zeros":
        raise ValueError("layer_inputs: a convolution must pad with zeros, by numbers")
    unfolded = nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    B, _, L = unfolded.shape
    by_group = unfolded.reshape(B, layer.groups, -1, L)  # (B, groups, inputs, places)
    return by_group.permute(1, 0, 3, 2).flatten(1, 2)


def _watched(who: str, model: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Module]:
    """The layers to watch, by name, in the model's order."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{who}: model must be a torch.nn.Module, got {type(model).__name__}")
    known = {name: layer for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
    wanted = list(known) if names is None else list(names)
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"{who}: {', '.join(map(repr, unknown))} is no linear layer or convolution here; known: {list(known)}")
    if not wanted:
        raise ValueError(f"{who}: the model has no linear layer or convolution to watch")
    return {name: layer for name, layer in known.items() if name in wanted}


@torch.no_grad()
def _run(who: str, model: nn.Module, X: Tensor, watched: dict[str, nn.Module], look: Callable, batch_size: int) -> None:
    """Run the model on X batch by batch; `look(name, input)` at each watched layer."""
    check_tensor(who, "X", X)
    check_count(who, "batch_size", batch_size)

    def hook(name: str):
        return lambda layer, inputs: look(name, inputs[0].detach())

    with _eval_mode(model):
        handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in watched.items()]
        try:
            for x in X.split(batch_size):
                model(x)
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
