import torch


def round_weights(W, n_bits, per_row=True):
    U = W.double() if per_row else W.double().reshape(1, -1)
    s = torch.linalg.vector_norm(U, ord=float("inf"), dim=1, keepdim=True) / (2 ** (n_bits - 1) - 1)
    codes = torch.where(s == 0, 0.0, torch.floor(U.abs() / s + 0.5) * U.sign())
    return (s * codes).reshape(W.shape).float()
