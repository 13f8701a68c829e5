import torch


def fake_quantize(x, s, q_min, q_max):
    return s * torch.round(x / s).clamp(q_min, q_max)
