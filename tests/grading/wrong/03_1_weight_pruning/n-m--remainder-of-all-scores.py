import torch


def keep_n_of_m(score, n, m):
    if score.numel() % m:
        raise ValueError("remainder")
    blocks = score.reshape(-1, m)
    return torch.zeros_like(blocks, dtype=torch.bool).scatter(-1, blocks.topk(n).indices, True).reshape(score.shape)
