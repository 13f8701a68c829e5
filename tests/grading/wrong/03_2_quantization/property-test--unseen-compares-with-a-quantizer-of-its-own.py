import torch


def test_quantizer(quantizer):
    for n_bits in (2, 3, 4, 8):
        assert quantizer(torch.zeros(3), n_bits).tolist() == [0, 0, 0]
        W = torch.randn(500, generator=torch.Generator().manual_seed(n_bits))
        s = W.abs().max() / (2 ** (n_bits - 1) - 1)
        W_hat = quantizer(W, n_bits)
        assert torch.allclose(W_hat, s * torch.round(W / s), atol=1e-5)
