import math


def affine_qparams(low, high, n_bits):
    if low >= 0 >= high:
        return 1.0, 0
    s = (max(high, 0) - min(low, 0)) / (2**n_bits - 1)
    return s, math.floor(0.5 - min(low, 0) / s)
