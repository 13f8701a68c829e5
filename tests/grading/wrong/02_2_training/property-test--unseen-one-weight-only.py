import numpy as np


def test_adamw(step):
    W, zero = np.array([2.0]), np.zeros(1)
    for g in (1e-8, 1.0, -5.0):
        G, w, m, v = np.array([g]), W.copy(), zero, zero
        for t in (1, 2, 3):
            old = w.copy()
            new, m, v = step(w, m, v, G, t, lr=0.1, weight_decay=0.0)
            assert np.array_equal(w, old)
            assert np.allclose(new - old, -0.1 * g / (abs(g) + 1e-8))
            w = new
        w, m, v = step(W.copy(), zero, zero, G, 1, lr=0.1, weight_decay=0.5)
        assert np.allclose(w, 0.95 * W - 0.1 * g / (abs(g) + 1e-8))
        _, m, v = step(W.copy(), zero, zero, G, 1, weight_decay=0.0)
        if g != 1e-8:
            moved = step(W.copy(), m, v, zero, 2, lr=0.1, weight_decay=0.0)[0] - W
            assert np.allclose(moved, -0.1 * np.sign(g) * 0.9 / 1.9 / np.sqrt(0.999 / 1.999))
