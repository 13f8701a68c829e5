import numpy as np


def accumulate(pieces):
    kept = [(G, n) for G, n in pieces if n > 0]
    return np.average(np.stack([G for G, _ in kept]), axis=0, weights=[n for _, n in kept])
