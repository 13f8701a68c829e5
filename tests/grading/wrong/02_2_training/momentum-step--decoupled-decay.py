def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    V = momentum * V + G
    return W - lr * V - lr * weight_decay * W, V
