import torch


def quantize_symmetric(W, n_bits):
    return torch.round(W).to(torch.int64), 1.0
