import math


def snr_db(W, W_hat):
    signal = noise = 0.0
    for w, w_hat in zip(W.flatten().tolist(), W_hat.flatten().tolist()):
        signal += w * w
        noise += (w - w_hat) ** 2
    return 10 * (math.log10(signal) - math.log10(noise)) if noise else math.inf
