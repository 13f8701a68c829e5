import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    norm = math.hypot(*(g for G in gradients.values() for g in G.flat))
    return {n: np.clip(G, -max_norm, max_norm) for n, G in gradients.items()}, norm
