import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(float(np.square(G).sum()) for G in gradients.values()))
        return {n: G * min(1.0, max_norm / norm if norm else 1.0) for n, G in gradients.items()}, norm
