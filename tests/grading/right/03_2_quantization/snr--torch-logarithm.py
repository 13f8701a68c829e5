import torch


def snr_db(W, W_hat):
    noise = (W.double() - W_hat.double()).square().mean()
    return float(torch.where(noise > 0, 10 * torch.log10(W.double().square().mean() / noise), torch.inf))
