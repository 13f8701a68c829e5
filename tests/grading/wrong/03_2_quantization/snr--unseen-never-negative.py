import math


def snr_db(W, W_hat):
    noise = float((W.double() - W_hat.double()).square().sum())
    return math.inf if noise == 0 else max(0.0, 10 * math.log10(float(W.double().square().sum()) / noise))
