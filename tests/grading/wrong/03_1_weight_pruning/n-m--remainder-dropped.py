import torch


def keep_n_of_m(score, n, m):
    mask = torch.zeros_like(score, dtype=torch.bool)
    for start in range(0, score.shape[1], m):
        block = score[:, start : start + m]
        mask[:, start : start + m] = mask[:, start : start + m].scatter(1, block.topk(min(n, block.shape[1])).indices, True)
    return mask
