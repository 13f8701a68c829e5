import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    largest = max(np.abs(G).max() for G in gradients.values())
    unit = largest if largest > 1 else 1.0
    norm = unit * math.sqrt(sum(np.square(G / unit).sum() for G in gradients.values()))
    return {n: G * min(1.0, max_norm / norm if norm else 1.0) for n, G in gradients.items()}, norm
