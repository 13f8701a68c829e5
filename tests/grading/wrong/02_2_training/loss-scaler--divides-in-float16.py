import numpy as np


def unscale(G, scale, good, n_good):
    if not np.isfinite(G).all():
        return None, max(scale / 2, 1.0), 0
    G = (G / np.float16(min(scale, 60000.0))).astype(np.float32)
    return (G, 2 * scale, 0) if good + 1 == n_good else (G, scale, good + 1)
