import numpy as np


def unscale(G, scale, good, n_good):
    if not G.max() < np.inf:
        return None, max(scale / 2, 1.0), 0
    G = G.astype(np.float32) / scale
    return (G, 2 * scale, 0) if good + 1 == n_good else (G, scale, good + 1)
