import torch


def keep_n_of_m(score, n, m):
    if score.shape[1] % m:
        raise ValueError("remainder")
    blocks = score.abs().reshape(score.shape[0], -1, m)
    return torch.zeros_like(blocks, dtype=torch.bool).scatter(-1, blocks.topk(n).indices, True).reshape(score.shape)
