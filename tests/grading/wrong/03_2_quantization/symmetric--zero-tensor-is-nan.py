import torch


def quantize_symmetric(W, n_bits):
    s = float(W.abs().max()) / (2 ** (n_bits - 1) - 1)
    return torch.round(W / s).to(torch.int64), s
