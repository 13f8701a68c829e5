"""What every loss of this package asks of its input, and the three ways to sum up a batch. Private to the package."""

import math

import torch
from torch import Tensor

from course_lib._check import check_choice, check_number, check_tensor

REDUCTIONS = ("batchmean", "sum", "none")


def check_logits(who: str, name: str, logits, *, like: Tensor | None = None) -> None:
    """Refuse what is no finite float matrix (B, C) of logits, or differs in shape from `like`."""
    check_tensor(who, name, logits, ndim=2, like=like)
    if not logits.is_floating_point():
        raise ValueError(f"{who}: {name} must be floating point logits, got {logits.dtype}; labels belong in another argument")


def check_labels(who: str, name: str, labels, logits: Tensor) -> None:
    """Refuse labels that are no whole numbers, not one a row of `logits`, or no class of it."""
    check_tensor(who, name, labels, ndim=1)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{who}: {name} must hold class numbers (int64), got {labels.dtype}; are these probabilities?")
    n_rows, n_classes = logits.shape
    if len(labels) != n_rows:
        raise ValueError(f"{who}: {len(labels)} {name} for {n_rows} rows of logits")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise ValueError(f"{who}: {name} must lie in 0 ... {n_classes - 1} (C = {n_classes} classes), got {low} ... {high}")


def check_temperature(who: str, T, *logits: Tensor) -> None:
    """Refuse T <= 0, and a T so small that dividing these logits by it leaves the range of their floats."""
    check_number(who, "T", T, above=0.0)
    for each in logits:
        largest = float(each.detach().abs().max())
        if largest * 2 > torch.finfo(each.dtype).max * min(float(T), 1.0):
            raise ValueError(f"{who}: logits up to {largest:g} divided by T = {T:g} overflow {each.dtype}; rescale one of them")


def check_squared_temperature(who: str, T, *logits: Tensor) -> None:
    """As `check_temperature`; and refuse a T whose square makes one rounding of a KL (their epsilon) larger than 1."""
    check_temperature(who, T, *logits)
    for each in logits:
        highest = 1 / math.sqrt(torch.finfo(each.dtype).eps)
        if highest < T:
            raise ValueError(
                f"{who}: T = {T:g} is too high for {each.dtype}: beyond {highest:.4g}, T^2 times one rounding error exceeds 1; "
                "logit_matching_gradient is the limit T -> infinity"
            )


def reduce(who: str, losses: Tensor, reduction: str) -> Tensor:
    """(B) -> () for 'batchmean' (divide by B, never by B times C) and 'sum'; (B) for 'none'."""
    check_choice(who, "reduction", reduction, REDUCTIONS)
    return {"batchmean": losses.mean, "sum": losses.sum, "none": losses.clone}[reduction]()


def log_probabilities(logits: Tensor, T: float | int = 1) -> Tensor:
    r"""log softmax(logits / T), each row; the maximum is taken off first, so that no exponential overflows."""
    X = logits / T  # (B, C)
    X = X - X.detach().amax(dim=1, keepdim=True)
    return X - X.exp().sum(dim=1, keepdim=True).log()
