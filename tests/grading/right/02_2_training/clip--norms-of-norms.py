import numpy as np


def clip(gradients, max_norm):
    def norm_of(x):
        x = np.ravel(x)
        top = np.abs(x).max()
        if not np.isfinite(top):
            raise FloatingPointError(str(top))
        return float(top * np.linalg.norm(x / top)) if top else 0.0

    norm = norm_of([norm_of(G) for G in gradients.values()])
    if norm > max_norm:
        return {name: G / norm * max_norm for name, G in gradients.items()}, norm
    return {name: 1.0 * G for name, G in gradients.items()}, norm
