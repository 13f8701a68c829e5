import torch


def round_weights(W, n_bits, per_row=True):
    s = W.abs().max() / (2 ** (n_bits - 1) - 1)
    return s * torch.round(W / s)
