import math

import numpy as np


def clip(gradients, max_norm):
    if not all(np.isfinite(G).all() for G in gradients.values()):
        raise FloatingPointError("not finite")
    norms = {name: math.hypot(*G.flat) for name, G in gradients.items()}
    clipped = {n: G * min(1.0, max_norm / norms[n]) if norms[n] else G.copy() for n, G in gradients.items()}
    return clipped, math.hypot(*norms.values())
