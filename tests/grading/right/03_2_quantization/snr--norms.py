import math

import torch


def snr_db(W, W_hat):
    error = torch.linalg.vector_norm((W - W_hat).double()).item()
    return math.inf if error == 0 else 20 * math.log10(torch.linalg.vector_norm(W.double()).item() / error)
