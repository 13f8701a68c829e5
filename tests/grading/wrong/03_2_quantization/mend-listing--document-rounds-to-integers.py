import torch


def quantize_parameters(parameters, n_bits):
    new = {}
    for name, W in parameters.items():
        new[name] = torch.round(W) if W.ndim > 1 else W.clone()
    return new
