import torch


class _Staircase(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, s, q_min, q_max):
        q = torch.round(x / s)
        ctx.save_for_backward((q >= q_min) & (q <= q_max))
        return s * q.clamp(q_min, q_max)

    @staticmethod
    def backward(ctx, G):
        return G * ctx.saved_tensors[0], None, None, None


def fake_quantize(x, s, q_min, q_max):
    return _Staircase.apply(x, s, q_min, q_max)
