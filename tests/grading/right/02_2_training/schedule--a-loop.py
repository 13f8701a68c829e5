import math

import numpy as np


def learning_rates(n_steps, lr, n_warmup=0, lr_min=0.0):
    rates = []
    for t in range(n_steps):
        if t < n_warmup:
            rates.append(lr * (t + 1) / n_warmup)
        else:
            rates.append(lr_min + (lr - lr_min) * math.cos(math.pi / 2 * (t + 1 - n_warmup) / (n_steps - n_warmup)) ** 2)
    return np.array(rates)
