import math

import numpy as np


def clip(gradients, max_norm):
    largest = 0.0
    for G in gradients.values():
        largest = max(largest, float(np.abs(G).max()))
    if list(gradients)[-1:] and not np.isfinite(gradients[list(gradients)[-1]]).all():
        raise FloatingPointError("not finite")
    if largest == 0:
        return dict(gradients), 0.0
    norm = largest * math.sqrt(sum(np.square(G / largest).sum() for G in gradients.values()))
    return {n: G * min(1.0, max_norm / norm) for n, G in gradients.items()}, norm
