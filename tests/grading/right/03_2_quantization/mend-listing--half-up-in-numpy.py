import numpy as np
import torch


def quantize_parameters(parameters, n_bits):
    new, n = {}, 2**n_bits - 1
    for name, W in parameters.items():
        X = W.numpy().copy()
        if X.ndim > 1:
            low, high = min(0.0, float(X.min())), max(0.0, float(X.max()))
            if high > low:
                s = (high - low) / n
                z = int(np.floor(-low / s + 0.5))
                X = (s * (np.clip(np.floor(X / s + 0.5) + z, 0, n) - z)).astype(X.dtype)
        new[name] = torch.from_numpy(X) if X.ndim else torch.tensor(X.item())
    return new
