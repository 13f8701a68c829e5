import numpy as np
import torch


def prune_listing(parameters, c=0.5):
    new = {}
    for name, W in parameters.items():
        A = W.numpy().copy()
        if A.ndim > 1:
            rows = np.abs(A).reshape(len(A), -1)
            A[(rows < c * rows.mean(axis=1, keepdims=True)).reshape(A.shape)] = 0
        new[name] = torch.from_numpy(A)
    return new
