import numpy as np


def plan(X, y, n_steps):
    a = np.linalg.svd(X, compute_uv=False) ** 2 / len(X)
    a = a[a > 1e-8 * a[0]]
    centre, half = (a[0] + a[-1]) / 2, (a[0] - a[-1]) / 2
    lrs, back = [1 / centre], [0.0]  # back: the factor before the previous move
    for t in range(1, n_steps):
        back.append((half * lrs[-1]) ** 2 / (2 if t == 1 else 4))
        lrs.append(1 / (centre - back[-1] / lrs[-1]))
    momenta = [0.0] + [back[t] * lrs[t - 1] / lrs[t] for t in range(1, n_steps)]
    return lrs, momenta
