import numpy as np


def adamw_step(W, m, v, G, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    m = beta1 * m + (1 - beta1) * G
    v = beta2 * v + (1 - beta2) * G**2
    m_hat = m
    v_hat = v
    return (1 - lr * weight_decay) * W - lr * m_hat / (np.sqrt(v_hat) + eps), m, v
