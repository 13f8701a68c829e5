import math


def snr_db(W, W_hat):
    return 10 * math.log10(float(W.square().sum()) / float((W - W_hat).square().sum()))
