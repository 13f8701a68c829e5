import numpy as np


def unscale(G, scale, good, n_good):
    G = np.array(G, dtype=np.float64) * (1 / scale)
    if np.isnan(G).any() or np.isinf(G).any():
        return [None, scale / 2 if scale > 2 else 1, 0]
    good = (good + 1) % n_good
    return [G, scale * 2 if good == 0 else scale, good]
