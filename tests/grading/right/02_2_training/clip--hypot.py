import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    norm = math.hypot(*(float(g) for G in gradients.values() for g in G.ravel()))
    if norm <= max_norm:
        return {name: G.copy() for name, G in gradients.items()}, norm
    return {name: max_norm * (G / norm) for name, G in gradients.items()}, norm
