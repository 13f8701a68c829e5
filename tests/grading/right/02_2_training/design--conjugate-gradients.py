import numpy as np


def plan(X, y, n_steps):
    A, b = X.T @ X / len(X), X.T @ y / len(X)
    w, V, old = np.zeros(len(b)), np.zeros(len(b)), None
    lrs, momenta = np.zeros(n_steps), np.zeros(n_steps)
    for t in range(n_steps):
        G = A @ w - b
        if 1e-16 * (b @ b) >= G @ G:
            break
        momenta[t] = 0 if old is None else G @ G / old
        V, old = momenta[t] * V + G, G @ G
        lrs[t] = (G @ V) / (V @ A @ V)
        w = w - lrs[t] * V
    return lrs, momenta
