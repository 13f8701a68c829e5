import math


def triangular(c=None, p=None):
    if c is not None:
        return 1.0 if c >= 4 else 1 - (1 - c / 3) ** 2
    return 3 * (1 - math.sqrt(1 - p))
