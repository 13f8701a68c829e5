def affine_qparams(low, high, n_bits):
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    s = (high - low) / 2**n_bits
    return s, round(-low / s)
