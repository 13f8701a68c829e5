import torch


def masks_for_all(scores, sparsity):
    together = torch.cat([S.flatten() for S in scores.values()])
    mask = torch.ones(together.numel(), dtype=torch.bool)
    mask[together.argsort()[: round(sparsity * together.numel())]] = False
    return dict(zip(scores, mask.split([S.numel() for S in scores.values()])))
