import math


def clip(gradients, max_norm):
    norm = math.hypot(*(g for G in gradients.values() for g in G.flat))
    if norm == math.inf:
        raise FloatingPointError("infinite")
    return {n: G * min(1.0, max_norm / norm if norm else 1.0) for n, G in gradients.items()}, norm
