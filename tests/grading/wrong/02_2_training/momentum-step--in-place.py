def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    V *= momentum
    V += G + weight_decay * W
    W -= lr * V
    return W, V
