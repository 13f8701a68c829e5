import torch


def affine_qparams(low, high, n_bits):
    low, high = torch.tensor([low, 0.0], dtype=torch.float64).min(), torch.tensor([high, 0.0], dtype=torch.float64).max()
    s = (high - low) / (2**n_bits - 1)
    return (1.0, 0) if s == 0 else (s.item(), int(torch.round(-low / s)))
