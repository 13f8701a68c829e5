import numpy as np


def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    W, V, G = (np.asarray(A, dtype=np.float32) for A in (W, V, G))
    V = momentum * V + (G + weight_decay * W)
    return W - lr * V, V
