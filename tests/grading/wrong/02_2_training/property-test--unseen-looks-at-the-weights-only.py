import math

import numpy as np


def test_adamw(step):
    rng = np.random.default_rng(0)
    W, m, v = rng.normal(size=4), np.zeros(4), np.zeros(4)
    want, mean, square = W.copy(), np.zeros(4), np.zeros(4)
    for t in range(1, 5):
        G = rng.normal(size=4) * 10.0 ** np.array([-8, 0, 1, 2])
        mean, square = 0.9 * mean + 0.1 * G, 0.999 * square + 0.001 * G**2
        move = mean / (1 - 0.9**t) / (np.sqrt(square) / math.sqrt(1 - 0.999**t) + 1e-8)
        want = (1 - 0.1 * 0.5) * want - 0.1 * move
        old = W.copy()
        new, m, v = step(W, m.copy(), v.copy(), G, t, lr=0.1, weight_decay=0.5)
        assert np.array_equal(W, old)
        W = new
        assert np.allclose(W, want)
