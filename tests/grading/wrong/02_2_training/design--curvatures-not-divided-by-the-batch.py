import numpy as np


def plan(X, y, n_steps):
    a = np.linalg.eigvalsh(X.T @ X)
    a = a[a > 1e-9 * a.max()]
    low, high = np.sqrt(a.min()), np.sqrt(a.max())
    return np.full(n_steps, (2 / (low + high)) ** 2), np.full(n_steps, ((high - low) / (high + low)) ** 2)
