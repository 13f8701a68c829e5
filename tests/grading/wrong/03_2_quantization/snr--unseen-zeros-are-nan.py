import torch


def snr_db(W, W_hat):
    ratio = W.double().square().mean() / (W.double() - W_hat.double()).square().mean()
    return float(10 * torch.log10(ratio))
