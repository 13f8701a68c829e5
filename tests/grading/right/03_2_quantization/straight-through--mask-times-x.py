import torch


def fake_quantize(x, s, q_min, q_max):
    q = torch.round(x / s).detach()
    inside = ((q >= q_min) & (q <= q_max)).to(x.dtype)
    return (s * q.clamp(q_min, q_max)).detach() + inside * (x - x.detach())
