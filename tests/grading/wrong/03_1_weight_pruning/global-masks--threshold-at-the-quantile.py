import torch


def masks_for_all(scores, sparsity):
    together = torch.cat([S.flatten() for S in scores.values()])
    n_gone = round(sparsity * together.numel())
    threshold = together.sort().values[min(n_gone, together.numel() - 1)]
    return {name: threshold <= S for name, S in scores.items()}
