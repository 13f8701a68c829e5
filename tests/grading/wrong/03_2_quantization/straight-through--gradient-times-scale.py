import torch


def fake_quantize(x, s, q_min, q_max):
    u = x / s
    code = torch.round(u).clamp(q_min, q_max)
    return s * code.detach() + (u.clamp(q_min, q_max) - u.clamp(q_min, q_max).detach())
