import torch


def round_weights(W, n_bits, per_row=True):
    axes = (1,) if per_row else (0, 1)
    s = W.abs().amax(axes, keepdim=True).clamp(min=torch.finfo(W.dtype).tiny) / (2 ** (n_bits - 1) - 1)
    return torch.nan_to_num(s * torch.round(W / s))
