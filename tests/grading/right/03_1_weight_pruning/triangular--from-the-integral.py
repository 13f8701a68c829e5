import numpy as np


def triangular(c=None, p=None):
    def share(x):
        t = np.clip(x, 0.0, 3.0) / 3
        return 2 * (t - t**2 / 2)

    if c is not None:
        return share(c)
    low, high = 0.0, 3.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < p else (low, middle)
    return high
