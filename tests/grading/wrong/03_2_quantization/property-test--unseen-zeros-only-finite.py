import torch


def test_quantizer(quantizer):
    for n_bits in range(2, 9):
        q_max = 2 ** (n_bits - 1) - 1
        W = torch.linspace(-1, 1, 4001)
        W_hat = quantizer(W, n_bits)
        codes = W_hat * q_max
        assert (codes - codes.round()).abs().max() < 1e-3, "a value off the grid"
        assert codes.abs().max() <= q_max + 1e-3, "beyond the last mark"
        assert ((W * q_max - codes).abs() <= 0.5 + 1e-3).all(), "not the nearest mark"
        assert torch.isfinite(quantizer(torch.zeros(4), n_bits)).all(), "zeros became NaN"
        assert (quantizer(W_hat, n_bits) - W_hat).abs().max() < 1e-5
