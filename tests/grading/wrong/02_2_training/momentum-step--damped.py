def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    V = momentum * V + (1 - momentum) * (G + weight_decay * W)
    return W - lr * V, V
