import numpy as np


def test_adamw(step):
    G, W, zero = np.array([0.3, -7.0]), np.array([1.0, 1.1]), np.zeros(2)
    for lr in (0.1, 0.2, 0.3):
        new = step(W, zero, zero, G, 1, lr=lr, weight_decay=0.7)[0]
        assert np.array_equal(new, (1 - lr * 0.7) * W - lr * G / (np.abs(G) + 1e-8) * (1 + 1e-15))
