import math


def triangular(c=None, p=None):
    if c is not None:
        return 1 - (1 - min(c, 2) / 2) ** 2
    return 2 * (1 - math.sqrt(1 - p))
