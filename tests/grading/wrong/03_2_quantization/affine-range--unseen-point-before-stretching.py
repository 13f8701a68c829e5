def affine_qparams(low, high, n_bits):
    if low == high:
        return 1.0, 0
    low, high = min(low, 0.0), max(high, 0.0)
    s = (high - low) / (2**n_bits - 1)
    return s, round(-low / s)
