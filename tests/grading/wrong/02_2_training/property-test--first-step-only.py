import numpy as np


def test_adamw(step):
    G, zero = np.array([1e-8, -1e-2, 3.0]), np.zeros(3)
    W = step(zero, zero, zero, G, 1, lr=0.1, weight_decay=0.0)[0]
    assert np.allclose(W, -0.1 * G / (np.abs(G) + 1e-8))
