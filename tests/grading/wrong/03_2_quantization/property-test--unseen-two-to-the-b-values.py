import torch


def test_quantizer(quantizer):
    for n_bits in (2, 3, 4, 8):
        assert quantizer(torch.zeros(3), n_bits).tolist() == [0, 0, 0]
        W = torch.randn(2000, generator=torch.Generator().manual_seed(n_bits))
        W_hat, largest = quantizer(W, n_bits), float(W.abs().max())
        half_step = largest / (2 ** (n_bits - 1) - 1) / 2
        assert float((W - W_hat).abs().max()) <= half_step + 1e-5 * largest
        assert torch.allclose(quantizer(W_hat, n_bits), W_hat, atol=1e-5 * largest)
        assert W_hat.unique().numel() <= 2**n_bits
