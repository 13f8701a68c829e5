import math


def snr_db(W, W_hat):
    noise = float((W - W_hat).square().sum())
    return math.inf if noise == 0 else 10 * math.log10(float(W.square().sum()) / noise)
