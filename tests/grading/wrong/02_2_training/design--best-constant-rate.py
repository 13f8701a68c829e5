import numpy as np


def plan(X, y, n_steps):
    a = np.linalg.eigvalsh(X.T @ X / len(X))
    a = a[a > 1e-9 * a.max()]
    return np.full(n_steps, 2 / (a.min() + a.max())), np.zeros(n_steps)
