import numpy as np


def learning_rates(n_steps, lr, n_warmup=0, lr_min=0.0):
    climb = [lr * (t + 1) / n_warmup for t in range(n_warmup)]
    fall = np.arange(1, n_steps - n_warmup + 1) / max(n_steps - n_warmup, 1)
    rates = lr_min + (lr - lr_min) / 2 * (1 + np.cos(np.pi * fall))
    rates[-1:] = lr_min
    return np.concatenate([climb or [lr], rates if climb else rates[1:]])
