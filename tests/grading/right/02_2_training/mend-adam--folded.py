import numpy as np


def adamw_step(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m = m + (1 - beta1) * (G - m)
    v = v + (1 - beta2) * (np.square(G) - v)
    size = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
    step = size * m / (np.sqrt(v) + eps * np.sqrt(1 - beta2**t))
    return W - lr * weight_decay * W - step, m, v
