import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    norm = math.hypot(*(g for G in gradients.values() for g in G.flat))
    return {n: G * (max_norm / norm if norm else 1.0) for n, G in gradients.items()}, norm
