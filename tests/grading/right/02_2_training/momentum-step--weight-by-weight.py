import numpy as np


def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    new_W, new_V = np.empty(W.shape), np.empty(W.shape)
    for k in np.ndindex(W.shape):
        new_V[k] = momentum * V[k] + G[k] + weight_decay * W[k]
        new_W[k] = W[k] - lr * new_V[k]
    return new_W, new_V
