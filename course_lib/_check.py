"""Refusing bad input in words: who refuses, what was given, what to do about it.

Every public function calls these at its door, so that a wrong shape, an empty tensor, a NaN or an impossible number of bits
ends in one sentence that a learner can act on, and never in a silent wrong result. `who` is the name of the function that
refuses, `name` the name of its argument.
"""

from collections.abc import Iterable
from numbers import Integral, Real

import torch
from torch import Tensor


def check_tensor(who: str, name: str, X, *, ndim: int | None = None, like: Tensor | None = None, finite: bool = True) -> None:
    """Refuse what is no tensor (TypeError), or is empty, of another rank or shape, NaN or infinite (ValueError)."""
    if not isinstance(X, Tensor):
        raise TypeError(f"{who}: {name} must be a torch.Tensor, got {type(X).__name__}; torch.as_tensor(...) makes one")
    if ndim is not None and X.ndim != ndim:
        raise ValueError(f"{who}: {name} must have {ndim} dimension(s), got shape {tuple(X.shape)}")
    if like is not None and X.shape != like.shape:
        raise ValueError(f"{who}: {name} must have shape {tuple(like.shape)}, got {tuple(X.shape)}")
    if X.numel() == 0:
        raise ValueError(f"{who}: {name} is empty (shape {tuple(X.shape)}); there is nothing to work on")
    if finite and X.is_floating_point() and not bool(torch.isfinite(X).all()):
        n_nan, n_inf = int(X.isnan().sum()), int(X.isinf().sum())
        raise ValueError(f"{who}: {n_nan} NaN and {n_inf} infinite among the {X.numel()} values of {name}; mend them first")


def check_fraction(who: str, name: str, value) -> None:
    """Refuse a number outside [0, 1], NaN and True included: in this course a share is a fraction, never a percentage."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        # From 2 on: 1.5 is more likely a slip than a percentage.
        hint = f"; did you mean {value / 100:g}?" if isinstance(value, Real) and 2 <= value <= 100 else ""
        raise ValueError(f"{who}: {name} is a fraction in [0, 1], got {value!r}{hint}")


def check_n_bits(who: str, n_bits, low: int = 2, high: int = 8) -> None:
    """Refuse a bit width that is no whole number in [low, high]."""
    if not isinstance(n_bits, Integral) or isinstance(n_bits, bool) or not low <= n_bits <= high:
        raise ValueError(f"{who}: n_bits must be a whole number from {low} to {high}, got {n_bits!r}")


def check_number(who: str, name: str, value, *, low: float = float("-inf"), above: float = float("-inf")) -> None:
    """Refuse what is no finite number, or lies below `low`, or not strictly above `above`."""
    if not isinstance(value, Real) or not float("-inf") < value < float("inf"):
        raise ValueError(f"{who}: {name} must be a finite number, got {value!r}")
    if value < low:
        raise ValueError(f"{who}: {name} must be >= {low:g}, got {value!r}")
    if value <= above:
        raise ValueError(f"{who}: {name} must be > {above:g}, got {value!r}")


def check_count(who: str, name: str, value, low: int = 1) -> None:
    """Refuse what is no whole number >= low."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{who}: {name} must be a whole number >= {low}, got {value!r}")


def check_choice(who: str, name: str, value, choices: Iterable[str]) -> None:
    """Refuse an unknown name, and list the known ones."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{who}: unknown {name} {value!r}; known: {', '.join(map(repr, known))}")
