import torch


def quantize_symmetric(W, n_bits):
    largest = torch.max(torch.abs(W)).item()
    q_max = (1 << n_bits - 1) - 1
    if largest == 0:
        return torch.zeros_like(W, dtype=torch.int64), 1.0
    return (W * (q_max / largest)).round().long(), largest / q_max
