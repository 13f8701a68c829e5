def affine_qparams(low, high, n_bits):
    if low > 0:
        low = 0.0
    if high < 0:
        high = 0.0
    width = high - low
    if not width:
        return 1.0, 0
    n_steps = (1 << n_bits) - 1
    return width / n_steps, round(-low * n_steps / width)
