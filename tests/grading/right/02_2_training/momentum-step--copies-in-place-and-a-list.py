def momentum_step(W, V, G, lr, momentum, weight_decay=0.0):
    W, V = W.copy(), V.copy()
    V *= momentum
    V += G
    V += weight_decay * W
    W -= lr * V
    return [W, V]
