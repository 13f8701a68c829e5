import numpy as np


def test_adamw(step):
    W, zero = np.array([1.0, -2.0]), np.zeros(2)
    new = step(W.copy(), zero, zero, W, 1, lr=0.1)[0]
    assert np.abs(new).sum() < np.abs(W).sum()
