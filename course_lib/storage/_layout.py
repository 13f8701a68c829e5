"""What the codecs share: rows of a tensor, and the way back from numpy."""

import numpy as np
import torch
from torch import Tensor


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns): the first dimension against all others; a vector or a single number is one row."""
    n = int(np.prod(shape, dtype=np.int64))
    return (shape[0], n // shape[0]) if len(shape) > 1 else (1, n)


def to_tensor(data: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """A float32 tensor of this shape with a decoder's values, in memory order."""
    return torch.from_numpy(np.ascontiguousarray(data, np.float32).reshape(shape))
