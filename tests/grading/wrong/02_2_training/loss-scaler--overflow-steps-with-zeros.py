import numpy as np


def unscale(G, scale, good, n_good):
    if not np.isfinite(G).all():
        return np.nan_to_num(G.astype(np.float32), posinf=0, neginf=0) / scale, max(scale / 2, 1.0), 0
    G = G.astype(np.float32) / scale
    return (G, 2 * scale, 0) if good + 1 == n_good else (G, scale, good + 1)
