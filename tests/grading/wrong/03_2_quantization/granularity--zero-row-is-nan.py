import torch


def round_weights(W, n_bits, per_row=True):
    s = (W.abs().amax(dim=1, keepdim=True) if per_row else W.abs().max()) / (2 ** (n_bits - 1) - 1)
    return s * torch.round(W / s)
