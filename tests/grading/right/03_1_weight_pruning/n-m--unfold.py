import torch


def keep_n_of_m(score, n, m):
    if score.shape[1] % m:
        raise ValueError("the last block would be short")
    blocks = score.unfold(1, m, m)
    lowest = blocks.topk(m - n, largest=False).indices
    return torch.ones(blocks.shape, dtype=torch.bool).scatter(2, lowest, False).flatten(1)
