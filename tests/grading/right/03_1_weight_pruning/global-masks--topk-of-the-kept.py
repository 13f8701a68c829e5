import torch


def masks_for_all(scores, sparsity):
    together = torch.cat([S.reshape(-1) for S in scores.values()])
    n_kept = together.numel() - round(sparsity * together.numel())
    mask = torch.zeros_like(together, dtype=torch.bool)
    mask[together.topk(n_kept).indices] = True
    masks, at = {}, 0
    for name, S in scores.items():
        masks[name] = mask[at : at + S.numel()].reshape(S.shape)
        at += S.numel()
    return masks
