def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    new = momentum * V + G + weight_decay * W
    return W - lr * V, new
