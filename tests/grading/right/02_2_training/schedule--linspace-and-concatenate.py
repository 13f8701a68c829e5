import numpy as np


def learning_rates(n_steps, lr, n_warmup=0, lr_min=0.0):
    climb = np.linspace(0, lr, n_warmup + 1)[1:]
    fall = (1 + np.cos(np.linspace(0, np.pi, n_steps - n_warmup + 1)[1:])) / 2
    return np.concatenate([climb, lr_min * (1 - fall) + lr * fall])
