import numpy as np


def accumulate(pieces):
    total = sum(n for _, n in pieces)
    return sum(n / total * np.nan_to_num(G) for G, n in pieces)
