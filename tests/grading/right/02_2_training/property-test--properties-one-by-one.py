import numpy as np


def test_adamw(step):
    G, zero = np.array([[0.0, 1e-8], [0.5, -20.0]]), np.zeros((2, 2))
    W = np.array([[1.0, -1.0], [3.0, 0.5]])
    once = -0.1 * G / (np.abs(G) + 1e-8)
    w, m, v = W, zero, zero
    for t in (1, 2, 3, 4):  # length
        new, m, v = step(w.copy(), m.copy(), v.copy(), G.copy(), t, 0.1, 0.9, 0.999, 1e-8, 0.0)
        assert np.allclose(new - w, once, atol=1e-12)
        w = new
    _, m, v = step(W.copy(), zero.copy(), zero.copy(), G.copy(), 1, 0.1, 0.9, 0.999, 1e-8, 0.0)
    moved = step(W.copy(), m, v, zero.copy(), 2, 0.1, 0.9, 0.999, 1e-8, 0.0)[0] - W  # memory
    assert np.allclose(moved[1], -0.1 * np.sign(G[1]) * (0.9 / 1.9) / (0.999 / 1.999) ** 0.5)
    with_decay, without = (step(W.copy(), zero.copy(), zero.copy(), G.copy(), 1, 0.1, weight_decay=d)[0] for d in (2.0, 0.0))
    assert np.allclose(with_decay - without, -0.1 * 2.0 * W)
    arrays = [W.copy(), 2 * G, np.abs(G), G.copy()]  # manners
    step(*arrays, 3)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, (W, 2 * G, np.abs(G), G)))
