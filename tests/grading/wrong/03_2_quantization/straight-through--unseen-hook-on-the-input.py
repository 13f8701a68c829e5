import torch


def fake_quantize(x, s, q_min, q_max):
    code = torch.round(x.detach() / s)
    if x.requires_grad:
        x.register_hook(lambda G: G * ((code >= q_min) & (code <= q_max)))
    return x + (s * code.clamp(q_min, q_max) - x).detach()
