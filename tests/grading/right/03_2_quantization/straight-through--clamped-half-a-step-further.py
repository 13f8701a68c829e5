import torch


def fake_quantize(x, s, q_min, q_max):
    ramp = x.clamp((q_min - 0.5) * s, (q_max + 0.5) * s)
    codes = torch.floor(x / s + 0.5).clamp(q_min, q_max)
    return ramp + (s * codes - ramp).detach()
