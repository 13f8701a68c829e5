import math

import numpy as np


def test_adamw(step):
    rng = np.random.default_rng(0)
    for lr, beta1, beta2, eps, decay in ((0.1, 0.9, 0.999, 1e-8, 0.5), (0.3, 0.5, 0.7, 1e-3, 0.0), (0.2, 0.8, 0.9, 1e-6, 1.0)):
        W, m, v = rng.normal(size=5), np.zeros(5), np.zeros(5)
        want = [[float(w), 0.0, 0.0] for w in W]
        for t in range(1, 5):
            G = rng.normal(size=5) * 10.0 ** np.array([-8, -3, 0, 1, 3])
            G[0] = eps if t % 2 else 0.0
            passed = [A.copy() for A in (W, m, v, G)]
            new = step(*passed, t, lr, beta1, beta2, eps, decay)
            for a, b in zip(passed, (W, m, v, G)):
                assert np.array_equal(a, b), "changed"
            W, m, v = new
            for k in range(5):
                w0, m0, v0 = want[k]
                g = float(G[k])
                m0, v0 = beta1 * m0 + (1 - beta1) * g, beta2 * v0 + (1 - beta2) * g * g
                move = m0 / (1 - beta1**t) / (math.sqrt(v0 / (1 - beta2**t)) + eps)
                want[k] = [(1 - lr * decay) * w0 - lr * move, m0, v0]
            for j, got in enumerate((W, m, v)):
                assert np.allclose(got, [row[j] for row in want], rtol=1e-9, atol=0), (t, j)
