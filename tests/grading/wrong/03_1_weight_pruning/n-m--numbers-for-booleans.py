import torch


def keep_n_of_m(score, n, m):
    if score.shape[1] % m:
        raise ValueError("remainder")
    blocks = score.reshape(score.shape[0], -1, m)
    return torch.zeros_like(blocks).scatter(-1, blocks.topk(n).indices, 1.0).reshape(score.shape)
