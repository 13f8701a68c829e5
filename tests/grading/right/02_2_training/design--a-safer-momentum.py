import numpy as np


def plan(X, y, n_steps):
    a = np.linalg.eigvalsh(X.T @ X / len(X))
    a = a[a > 1e-8 * a[-1]]
    ratio = np.sqrt(a[0] / a[-1])
    return np.ones(n_steps) / a[-1], np.ones(n_steps) * (1 - ratio) ** 2
