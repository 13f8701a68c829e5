import torch


def quantize_parameters(parameters, n_bits):
    new = dict(parameters)
    for name, W in parameters.items():
        if W.ndim >= 2:
            low, high = W.min().clamp(max=0).item(), W.max().clamp(min=0).item()
            s = (high - low) / (2**n_bits - 1)
            if s > 0:
                new[name] = torch.fake_quantize_per_tensor_affine(W, s, round(-low / s), 0, 2**n_bits - 1)
    return new
