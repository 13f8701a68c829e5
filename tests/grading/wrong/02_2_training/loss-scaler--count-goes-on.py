import numpy as np


def unscale(G, scale, good, n_good):
    if not np.isfinite(G).all():
        return None, max(scale / 2, 1.0), 0
    good += 1
    return G.astype(np.float32) / scale, 2 * scale if good % n_good == 0 else scale, good
