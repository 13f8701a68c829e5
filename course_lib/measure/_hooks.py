"""Watching a network's layers during one run, and leaving the network as it was. Private to this package."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn


def run_observed(model: nn.Module, x: Tensor, layers: Iterable[tuple[str, nn.Module]], hook: Callable[[str], Callable]) -> None:
    """Run `model(x)` once in eval mode with `hook(name)` on each named layer; hooks and modes are undone whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(hook(name)) for name, module in layers]
    try:
        model.eval()(x)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
