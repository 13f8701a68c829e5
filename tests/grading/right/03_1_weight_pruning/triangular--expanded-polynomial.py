def triangular(c=None, p=None):
    if c is None:
        return 3 - 3 * (1 - p) ** 0.5
    c = min(c, 3.0)
    return 2 * c / 3 - c * c / 9
