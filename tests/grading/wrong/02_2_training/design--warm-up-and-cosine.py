import numpy as np


def plan(X, y, n_steps):
    a = np.linalg.eigvalsh(X.T @ X / len(X))
    a = a[a > 1e-9 * a.max()]
    t = np.arange(n_steps)
    return 1 / a.max() * (1 + np.cos(np.pi * t / n_steps)), np.zeros(n_steps)
