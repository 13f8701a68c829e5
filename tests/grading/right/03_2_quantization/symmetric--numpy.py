import numpy as np
import torch


def quantize_symmetric(W, n_bits):
    values = W.numpy().astype(np.float64)
    s = float(np.abs(values).max()) / (2 ** (n_bits - 1) - 1)
    if s == 0:
        s = 1.0
    return torch.from_numpy(np.rint(values / s).astype(np.int64)), s
