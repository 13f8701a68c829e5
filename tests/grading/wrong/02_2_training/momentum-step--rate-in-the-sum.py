def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    V = momentum * V - lr * (G + weight_decay * W)
    return W + V, V
