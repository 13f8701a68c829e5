import numpy as np
import torch


def test_quantizer(quantizer):
    generator = torch.Generator().manual_seed(5)
    assert (quantizer(torch.zeros(3, 3), 4).numpy() == 0).all()
    for n_bits in (2, 3, 5, 7):
        for size in (1e-3, 1.0, 1e3):
            W = size * torch.randn(40, 60, generator=generator, dtype=torch.float64)
            once = quantizer(W, n_bits)
            twice = quantizer(once.clone(), n_bits)
            largest = W.abs().max().item()
            noise = 1e-5 * largest
            assert ((W - once).abs() <= largest / (2**n_bits - 2) + noise).all()
            assert ((twice - once).abs() <= noise).all()
            assert np.unique(once.numpy()).size <= 2**n_bits - 1
