import torch


def masks_for_all(scores, sparsity):
    masks = {}
    for name, S in scores.items():
        mask = torch.ones(S.numel(), dtype=torch.bool)
        mask[S.flatten().argsort()[: round(sparsity * S.numel())]] = False
        masks[name] = mask.reshape(S.shape)
    return masks
