import torch


def test_quantizer(quantizer):
    for n_bits in range(2, 9):
        assert not quantizer(torch.zeros(4), n_bits).abs().max() > 0, "zeros moved"
        assert not quantizer(torch.zeros(2, 3), n_bits).isnan().any(), "zeros became NaN"
        W = torch.linspace(-1, 1, 4001)
        W_hat = quantizer(W, n_bits)
        assert (W - W_hat).abs().max() <= 0.5 / (2 ** (n_bits - 1) - 1) + 1e-5
        assert len(set(W_hat.tolist())) < 2**n_bits
        assert (quantizer(W_hat, n_bits) - W_hat).abs().max() < 1e-5
