import numpy as np


def accumulate(pieces):
    return np.mean([G for G, n in pieces if n], axis=0)
