import math


def triangular(c=None, p=None):
    if c is not None:
        return 1 - math.exp(-c)
    return -math.log(max(1 - p, 1e-12))
