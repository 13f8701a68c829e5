r"""Channels that really go: a smaller dense network from a larger one (section 3.1).

When output channel i of a layer is not wanted, four things shrink together:

    (1)  W  (out, in, ...)   loses row i, and the bias its entry i
    (2)  a batch norm after it loses gamma_i, beta_i and the running mean and variance of channel i
    (3)  W' (out', out, ...) of the next layer loses column i; after a Flatten of (C, h, w) the h w columns from i h w on
    (4)  the MACs of this layer shrink by the share kept, those of the next layer by the same share again

The oracle: with f(0) = 0 for everything in between, removing channel i gives the same network as setting it to zero (row,
bias, gamma and beta, `zero_channels`). So removal is exact; what accuracy is lost, the zeros lose.
Activations with f(0) != 0 (a sigmoid) break that and are refused, as is LayerNorm, whose mean runs over the channels.

Left out: branches. Where two paths are added (residual networks) the channels of all of them are coupled, and a graph has to be
traced; Torch-Pruning (Fang et al. 2023) does that. Here networks are `nn.Sequential` chains, grouped convolutions are refused.
"""

import copy

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_tensor

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Each of these treats every channel by itself and maps 0 to 0.
_CHANNELWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Identity),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Dropout, nn.Dropout2d),
)


def _chain(who: str, model: nn.Sequential, name: str, keep: Tensor) -> tuple[str, list[str], str, int]:
    """Check everything; return producer, batch norms, consumer, and how many columns of the consumer belong to a channel."""
    names, layers = list(model._modules), list(model._modules.values())
    if name not in names:
        raise ValueError(f"{who}: the model has no layer {name!r}; it has {', '.join(names)}")
    producer = model._modules[name]
    _check_layer(who, name, producer, layers)
    n_channels = producer.weight.shape[0]
    check_tensor(who, "keep", keep, ndim=1)
    if keep.dtype != torch.bool or keep.numel() != n_channels:
        got = f"{keep.numel()} of type {keep.dtype}"
        raise ValueError(f"{who}: layer {name!r} has {n_channels} channels, so keep must hold {n_channels} booleans; got {got}")
    if not keep.any():
        raise ValueError(f"{who}: keep is False everywhere; a layer without channels cuts the network in two")
    norms, flattened = [], False
    for other in names[names.index(name) + 1 :]:
        layer = model._modules[other]
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            _check_layer(who, other, layer, layers)
            return name, norms, other, _columns(who, name, producer, other, layer, flattened)
        if isinstance(layer, _BATCH_NORMS):
            if flattened:
                raise ValueError(f"{who}: a batch norm after Flatten ({other!r}) is not handled; put it before")
            norms.append(other)
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            flattened = True
        elif not isinstance(layer, _CHANNELWISE):
            why = "mixes channels, does not map 0 to 0, or is unknown here"
            raise ValueError(f"{who}: cannot carry channels through layer {other!r} ({type(layer).__name__}): it {why}")
    raise ValueError(f"{who}: no Linear or Conv2d follows {name!r}; its channels are the network's answer")


def _check_layer(who: str, name: str, layer: nn.Module, layers: list[nn.Module]) -> None:
    """Refuse what cannot be cut: other types, groups, masks, and layers that stand at two places."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise ValueError(f"{who}: layer {name!r} is a {type(layer).__name__}; only Linear and Conv2d have channels to remove")
    if isinstance(layer, nn.Conv2d) and layer.groups != 1:
        raise ValueError(f"{who}: Conv2d {name!r} has {layer.groups} groups; its channels are coupled in ways not handled here")
    if parametrize.is_parametrized(layer):
        raise ValueError(f"{who}: layer {name!r} is masked or otherwise parametrized; call make_permanent(model) first")
    if sum(layer is other for other in layers) > 1:
        raise ValueError(f"{who}: layer {name!r} stands at two places of the network, so it cannot be cut at one")


def _columns(who: str, name: str, producer: nn.Module, other: str, consumer: nn.Module, flattened: bool) -> int:
    """How many inputs of the consumer one channel of the producer feeds: 1, or h * w after a Flatten."""
    n_out, n_in = producer.weight.shape[0], consumer.weight.shape[1]
    if isinstance(producer, nn.Conv2d) and isinstance(consumer, nn.Linear) and flattened and n_in % n_out == 0:
        return n_in // n_out
    if type(producer) is not type(consumer) and isinstance(producer, nn.Conv2d) != isinstance(consumer, nn.Conv2d):
        raise ValueError(f"{who}: {other!r} does not see the channels of {name!r} in an order that is known here")
    if n_in != n_out:
        raise ValueError(f"{who}: {other!r} takes {n_in} inputs, but {name!r} gives {n_out} channels")
    return 1


def _cut(layer: nn.Module, attribute: str, keep: Tensor, dim: int = 0) -> None:
    """Keep only some entries of a parameter or buffer of this (already copied) layer; None stays None."""
    old = getattr(layer, attribute)
    if old is None:
        return
    new = old.detach()[keep].clone() if dim == 0 else old.detach()[:, keep].clone()
    setattr(layer, attribute, nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new)


def remove_channels(model: nn.Sequential, name: str, keep: Bool[Tensor, "out"]) -> nn.Sequential:
    r"""A new, smaller network without some output channels of one layer, eq. (1) to (3). The model given is not changed.

    $$ W \leftarrow W_{\mathcal{K},:}, \quad b \leftarrow b_{\mathcal{K}}, \quad W' \leftarrow W'_{:,\mathcal{K}}, \quad
       (\gamma, \beta, \mu, \sigma^2) \leftarrow (\gamma_{\mathcal{K}}, \ldots) $$

    where $\mathcal{K}$ = {i : keep_i} and $W'$ is the weight of the next Linear or Conv2d. After a Flatten each channel owns
    a run of $h \cdot w$ columns of $W'$. Between the two may stand: BatchNorm, activations with f(0) = 0, pooling, Dropout,
    Flatten.

    model: an `nn.Sequential`.  name: the layer's name in it, e.g. "0".  keep: (out) booleans, `True` = stays.
    Raises ValueError, in words, for an unknown name, layers that cannot be cut or crossed, the last layer, or an empty keep.
    Source: Li et al. 2017, section 3.1; Liu et al. 2017, section 3.  Notebook: 03_1_weight_pruning.
    """
    producer, norms, consumer, n_columns = _chain("remove_channels", model, name, keep)
    smaller = copy.deepcopy(model)
    first, last = smaller._modules[producer], smaller._modules[consumer]
    _cut(first, "weight", keep)
    _cut(first, "bias", keep)
    for norm in (smaller._modules[n] for n in norms):
        for attribute in ("weight", "bias", "running_mean", "running_var"):
            _cut(norm, attribute, keep)
        norm.num_features = int(keep.sum())
    _cut(last, "weight", keep.repeat_interleave(n_columns), dim=1)
    setattr(first, "out_channels" if isinstance(first, nn.Conv2d) else "out_features", int(keep.sum()))
    setattr(last, "in_channels" if isinstance(last, nn.Conv2d) else "in_features", int(keep.sum()) * n_columns)
    return smaller


def zero_channels(model: nn.Sequential, name: str, keep: Bool[Tensor, "out"]) -> nn.Sequential:
    r"""A new network of the old size in which the unwanted channels are silent: the oracle of `remove_channels`.

    $$ W_{i,:} \leftarrow 0, \ b_i \leftarrow 0, \ \gamma_i \leftarrow 0, \ \beta_i \leftarrow 0 \quad (i \notin \mathcal{K}) $$

    where gamma and beta are those of the batch norms before the next layer. Zeroing only the row would leave a constant behind:
    the bias, or beta minus the scaled running mean.

    model, name, keep: as for `remove_channels`.
    Raises ValueError as `remove_channels`.
    Source: the identity in the head of this file.  Notebook: 03_1_weight_pruning.
    """
    producer, norms, _, _ = _chain("zero_channels", model, name, keep)
    silent = copy.deepcopy(model)
    with torch.no_grad():
        for layer in (silent._modules[n] for n in (producer, *norms)):
            for parameter in layer.parameters(recurse=False):
                parameter[~keep] = 0
    return silent
