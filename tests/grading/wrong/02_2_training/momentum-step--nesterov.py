def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    G = G + weight_decay * W
    V = momentum * V + G
    return W - lr * (G + momentum * V), V
