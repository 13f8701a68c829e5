import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    norm = float(np.float64(math.hypot(*(g for G in gradients.values() for g in G.flat))))
    with np.errstate(all="ignore"):
        return {n: G * min(1.0, np.float64(max_norm) / norm) * (norm / np.float64(norm)) for n, G in gradients.items()}, norm
