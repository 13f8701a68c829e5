import torch


def quantize_parameters(parameters, n_bits):
    matrices = [W for W in parameters.values() if W.ndim > 1]
    low, high = min(0.0, *(float(W.min()) for W in matrices), 0.0), max(0.0, *(float(W.max()) for W in matrices), 0.0)
    s = (high - low) / (2**n_bits - 1) or 1.0
    z = round(-low / s)
    return {
        name: s * (torch.clamp(torch.round(W / s) + z, 0, 2**n_bits - 1) - z) if W.ndim > 1 else W.clone()
        for name, W in parameters.items()
    }
