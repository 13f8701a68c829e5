r"""Masks that hold while the network trains (section 3.1).

Writing zeros into a weight is not pruning: the next optimizer step fills them again (momentum even when the gradient is zero).
So the mask must stand inside the function that is differentiated. With M the mask and V the stored values,

    (1)  W      =  M * V                 what the layer multiplies with
    (2)  dL/dV  =  M * dL/dW             so a removed weight gets gradient 0, exactly

Whatever the optimizer then does to V where M is False (weight decay, old momentum), W stays 0 there. V keeps the removed value,
so a later mask may give the weight back. `make_permanent` ends this: W becomes an ordinary parameter that contains zeros.

The masks are `torch.nn.utils.parametrize` parametrizations: `state_dict` carries values and mask ("0.parametrizations.weight
.original" and ".0.mask"), `deepcopy`, `.to(device)` and any optimizer work. Weights are named as the unmasked `state_dict`
names them, "0.weight".

What production libraries do differently: `torch.nn.utils.prune` does (1) in a forward pre-hook, with attributes `weight_orig`
and `weight_mask`, and stacks masks of repeated calls; a mask can only grow there.

Left out: weights that live outside Linear and Conv layers (embeddings, the packed projections of MultiheadAttention), and
biases: there are few of them, and each is the only one of its unit.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from course_lib._check import check_tensor
from course_lib._parametrized import make_plain

_PRUNABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Mask(nn.Module):
    """The parametrization of eq. (1): stored values in, masked weight out."""

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, V: Tensor) -> Tensor:
        # Not V * mask: that makes -0.0 of negative values, and NaN of an infinite one.
        return torch.where(self.mask, V, torch.zeros((), dtype=V.dtype, device=V.device))

    def right_inverse(self, W: Tensor) -> Tensor:
        """What to store when someone assigns to the weight: the values as given."""
        return W


def _prunable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Weight name -> layer, in the order of the network."""
    layers = {f"{name}.weight" if name else "weight": layer for name, layer in model.named_modules()}
    return {name: layer for name, layer in layers.items() if isinstance(layer, _PRUNABLE)}


def _mask_of(layer: nn.Module) -> _Mask | None:
    """The mask attached to this layer's weight, or None."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((p for p in layer.parametrizations["weight"] if isinstance(p, _Mask)), None)


def _check_masks(who: str, model: nn.Module, masks: dict[str, Tensor]) -> dict[str, nn.Module]:
    """Refuse unknown names, wrong shapes and masks that are no booleans, before anything is changed; return the layers."""
    layers = _prunable_layers(model)
    for name, mask in masks.items():
        if name not in layers:
            raise ValueError(f"{who}: no Linear or Conv weight is called {name!r}; there are {', '.join(layers) or 'none'}")
        with torch.no_grad():
            check_tensor(who, f"masks[{name!r}]", mask, like=layers[name].weight)
        if mask.dtype != torch.bool:
            raise TypeError(f"{who}: masks[{name!r}] must be boolean, True = keep; got {mask.dtype} (score > 0 makes one)")
    return {name: layers[name] for name in masks}


def prunable_weights(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    r"""The weights that pruning may touch: those of Linear and Conv layers, no biases, no norms.

    $$ \{\, \text{name} : W \,\}, \qquad W = M \odot V \text{ where a mask is attached} $$

    where a name is the one in the unmasked `state_dict`, e.g. "0.weight". The tensors are detached and, for unmasked layers,
    share memory with the model: read them, do not write.

    Source: eq. (1) above; which parameters count follows Han et al. 2015.  Notebook: 03_1_weight_pruning.
    """
    return {name: layer.weight.detach() for name, layer in _prunable_layers(model).items()}


def weight_gradients(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    r"""The gradients of the same weights, as the last `backward()` left them.

    $$ \{\, \text{name} : G \,\}, \qquad G = M \odot \partial L / \partial W \text{ where a mask is attached} $$

    where the keys are those of `prunable_weights`, so that a score of both is one comprehension. The tensors are copies: an
    optimizer's `zero_grad` does not reach them.

    Raises ValueError when a weight has no gradient: call `loss.backward()` first.
    Source: eq. (2) above.  Notebook: 03_1_weight_pruning.
    """
    gradients = {}
    for name, layer in _prunable_layers(model).items():
        V = layer.weight if _mask_of(layer) is None else layer.parametrizations["weight"].original
        if V.grad is None:
            raise ValueError(f"weight_gradients: {name} has no gradient; call loss.backward() first")
        gradients[name] = V.grad.detach().clone()
    return gradients


def attach_masks(model: nn.Module, masks: dict[str, Bool[Tensor, "..."]]) -> None:
    r"""Put masks between stored values and weights, in place, eq. (1) and (2).

    $$ W = M \odot V, \qquad \frac{\partial L}{\partial V} = M \odot \frac{\partial L}{\partial W} $$

    where $V$ is the old parameter itself: an optimizer that already holds it goes on working. The masks are copied.

    model: changed in place.  masks: weight name -> boolean tensor of its shape, `True` = stays; layers may be left out.
    Raises ValueError for an unknown name, a wrong shape, or a weight that is already masked or parametrized otherwise;
    TypeError for a mask that is not boolean. Nothing is changed then.
    Source: torch.nn.utils.parametrize (PyTorch documentation); Zhu & Gupta 2017, section 3.  Notebook: 03_1_weight_pruning.
    """
    layers = _check_masks("attach_masks", model, masks)
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            why = "is already masked; update_masks changes it" if _mask_of(layer) else "has another parametrization"
            raise ValueError(f"attach_masks: {name} {why}")
    for name, layer in layers.items():
        mask = masks[name].detach().clone().to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", _Mask(mask))


def update_masks(model: nn.Module, masks: dict[str, Bool[Tensor, "..."]]) -> None:
    r"""Replace the masks that are attached, in place: one step of a gradual schedule.

    $$ M \leftarrow M', \qquad V \text{ unchanged} $$

    where a weight that $M'$ keeps and $M$ did not comes back with the value stored in $V$. To let nothing come back, score
    `prunable_weights`, where the removed ones are zero and therefore go first again.

    model: changed in place.  masks: as for `attach_masks`; layers may be left out.
    Raises ValueError for an unknown name, a wrong shape or a weight without a mask; TypeError for a mask that is not boolean.
    Source: Zhu & Gupta 2017, section 3.  Notebook: 03_1_weight_pruning.
    """
    layers = _check_masks("update_masks", model, masks)
    for name, layer in layers.items():
        if _mask_of(layer) is None:
            raise ValueError(f"update_masks: {name} has no mask yet; attach_masks gives it one")
    for name, layer in layers.items():
        _mask_of(layer).mask.copy_(masks[name])


def current_masks(model: nn.Module) -> dict[str, Bool[Tensor, "..."]]:
    r"""The masks that are attached, as copies; an empty dict when there are none.

    $$ \{\, \text{name} : M \,\} $$

    where the names are those of `prunable_weights`; layers without a mask do not appear.

    Source: eq. (1) above.  Notebook: 03_1_weight_pruning.
    """
    layers = {name: _mask_of(layer) for name, layer in _prunable_layers(model).items()}
    return {name: attached.mask.clone() for name, attached in layers.items() if attached is not None}


def make_permanent(model: nn.Module) -> None:
    r"""Turn every masked weight into an ordinary parameter that holds the zeros, in place.

    $$ W \leftarrow M \odot V, \qquad M \text{ forgotten} $$

    where the forward pass gives the same numbers before and after, and the `state_dict` has its ordinary names again. From here
    on training would fill the zeros. A model without masks is left as it is.

    Source: as torch.nn.utils.prune.remove.  Notebook: 03_1_weight_pruning.
    """
    for layer in _prunable_layers(model).values():
        if _mask_of(layer) is not None:
            make_plain(layer)
