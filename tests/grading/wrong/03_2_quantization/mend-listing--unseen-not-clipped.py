import torch


def quantize_parameters(parameters, n_bits):
    new = {}
    for name, W in parameters.items():
        if W.ndim < 2:
            new[name] = W.clone()
            continue
        low, high = min(float(W.min()), 0.0), max(float(W.max()), 0.0)
        s = (high - low) / (2**n_bits - 1) or 1.0
        new[name] = s * torch.round(W / s)
    return new
