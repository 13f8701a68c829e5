import torch


def round_weights(W, n_bits, per_row=True):
    largest = W.abs().amax(dim=1, keepdim=True) if per_row else W.abs().max()
    s = largest / (2 ** (n_bits - 1) - 1)
    s = torch.where(s > 1e-4, s, 1.0)
    return s * torch.round(W / s)
