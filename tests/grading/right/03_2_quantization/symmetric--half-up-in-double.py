import torch


def quantize_symmetric(W, n_bits):
    U = W.double()
    s = max(U.max().item(), -U.min().item()) / (2 ** (n_bits - 1) - 1)
    if not s:
        s = 1.0
    return torch.floor(U / s + 0.5).to(torch.int64), s
