import torch


def masks_for_all(scores, sparsity):
    together = torch.cat([S.flatten().abs() for S in scores.values()])
    mask = torch.ones(together.numel(), dtype=torch.bool)
    mask[together.argsort()[: round(sparsity * together.numel())]] = False
    parts = mask.split([S.numel() for S in scores.values()])
    return {name: part.reshape(S.shape) for (name, S), part in zip(scores.items(), parts)}
