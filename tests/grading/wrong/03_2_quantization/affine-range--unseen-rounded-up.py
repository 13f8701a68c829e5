import math


def affine_qparams(low, high, n_bits):
    low, high = min(low, 0.0), max(high, 0.0)
    s = (high - low) / (2**n_bits - 1) or 1.0
    return s, min(math.ceil(-low / s), 2**n_bits - 1)
