import torch


def quantize_symmetric(W, n_bits):
    s = float(W.abs().max()) / (2 ** (n_bits - 1) - 1) or 1.0
    return torch.round(W / s).to(torch.int8).to(torch.int64), s
