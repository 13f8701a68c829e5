import torch


def quantize_symmetric(W, n_bits):
    s = float(W.abs().max()) / (2 ** (n_bits - 1) - 1)
    if s < 1e-8:
        s = 1.0
    return torch.round(W / s).to(torch.int64), s
