import torch


def quantize_parameters(parameters, n_bits):
    new = {}
    for name, W in parameters.items():
        if W.ndim != 2:
            new[name] = W.clone()
            continue
        low, high = min(float(W.min()), 0.0), max(float(W.max()), 0.0)
        s = (high - low) / (2**n_bits - 1) or 1.0
        z = round(-low / s)
        new[name] = s * (torch.clamp(torch.round(W / s) + z, 0, 2**n_bits - 1) - z)
    return new
