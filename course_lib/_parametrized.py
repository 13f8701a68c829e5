"""Ending a parametrization: a computed weight (masked, fake-quantized, shared) becomes an ordinary parameter again.

`torch.nn.utils.parametrize` puts the property `weight` on a class that it makes for the layer. deepcopy (torch 2.13) reuses
that class, and `remove_parametrizations` takes the property off it, so that every other copy of the layer would be left without
a weight. `make_plain` gives the layer a class of its own first; the pruning and the quantization packages both end with it.
"""

from torch import nn
from torch.nn.utils import parametrize


def make_plain(layer: nn.Module) -> None:
    """Replace the parametrized `weight` of this layer by its present value, in place; copies of the layer stay as they are."""
    _give_own_class(layer)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    layer.weight.grad = None  # it belonged to the stored values, and an optimizer would take it for the weight's own


def _give_own_class(layer: nn.Module) -> None:
    shared = type(layer)
    members = {key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, members)
