def affine_qparams(low, high, n_bits):
    if low == high:
        return 1.0, 0
    s = (high - low) / (2**n_bits - 1)
    return s, min(max(round(-low / s), 0), 2**n_bits - 1)
