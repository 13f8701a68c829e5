import numpy as np


def learning_rates(n_steps, lr, n_warmup=0, lr_min=0.0):
    t = np.arange(n_steps)
    u = (t - n_warmup) / max(n_steps - 1 - n_warmup, 1)
    return np.where(t < n_warmup, lr * (t + 1) / max(n_warmup, 1), lr_min + (lr - lr_min) / 2 * (1 + np.cos(np.pi * u)))
