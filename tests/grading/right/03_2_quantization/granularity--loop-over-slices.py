import torch


def round_weights(W, n_bits, per_row=True):
    if not per_row:
        return round_weights(W.reshape(1, -1), n_bits).reshape(W.shape)
    s = torch.maximum(W.max(dim=1).values, -W.min(dim=1).values) / (2 ** (n_bits - 1) - 1)
    s = s.masked_fill(s == 0, 1.0)[:, None]
    return (W / s).round() * s
