import numpy as np


def unscale(G, scale, good, n_good):
    if not np.isfinite(G).all():
        return None, max(scale / 2, 1.0), 0
    good += 1
    if good == n_good:
        scale, good = 2 * scale, 0
    return G.astype(np.float32) / scale, scale, good
