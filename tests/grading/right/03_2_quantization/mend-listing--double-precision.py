import torch


def quantize_parameters(parameters, n_bits):
    def affine(W):
        X = torch.cat([W.double().flatten(), torch.zeros(1, dtype=torch.float64)])
        low, high = X.min(), X.max()
        if low == high:
            return torch.zeros_like(W)
        s = (high - low) / (2**n_bits - 1)
        z = torch.round(-low / s)
        q = torch.round(W.double() / s + z).clamp(0, 2**n_bits - 1)
        return ((q - z) * s).to(W.dtype)

    return {name: affine(W) if W.dim() > 1 else W for name, W in parameters.items()}
