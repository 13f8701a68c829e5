import torch


def test_quantizer(quantizer):
    for n_bits in range(2, 7):
        for seed in range(2):
            for W in (normal(1500, seed=seed), torch.zeros(7)):
                W_hat = quantizer(W, n_bits)
                q_max = 2 ** (n_bits - 1) - 1
                bound = W.abs().max() / q_max / 2 + 1e-5 * W.abs().max()
                if not ((W - W_hat).abs() <= bound).all():
                    raise AssertionError("error")
                if not torch.allclose(quantizer(W_hat, n_bits), W_hat, atol=1e-5):
                    raise AssertionError("not idempotent")
                if W_hat.unique().numel() > 2 * q_max + 1:
                    raise AssertionError("too many values")
