def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    V = 0.9 * V + G + weight_decay * W
    return W - lr * V, V
