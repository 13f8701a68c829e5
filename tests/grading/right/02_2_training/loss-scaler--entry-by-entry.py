import math

import numpy as np


def unscale(G, scale, good, n_good):
    values = [float(g) for g in G.flat]
    if not all(map(math.isfinite, values)):
        return None, max(1, scale / 2), 0
    out = np.array([g / scale for g in values], dtype=np.float32).reshape(G.shape)
    if good + 1 >= n_good:
        return out, scale * 2, 0
    return out, scale, good + 1
