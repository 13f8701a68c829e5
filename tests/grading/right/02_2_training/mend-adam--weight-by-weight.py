import math

import numpy as np


def adamw_step(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    W, m, v = (np.array(A, dtype=float) for A in (W, m, v))
    for k in np.ndindex(W.shape):
        m[k] = beta1 * m[k] + (1 - beta1) * G[k]
        v[k] = beta2 * v[k] + (1 - beta2) * G[k] ** 2
        W[k] *= 1 - lr * weight_decay
        W[k] -= lr * (m[k] / (1 - beta1**t)) / (math.sqrt(v[k] / (1 - beta2**t)) + eps)
    return W, m, v
