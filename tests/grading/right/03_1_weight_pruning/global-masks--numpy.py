import numpy as np
import torch


def masks_for_all(scores, sparsity):
    flat = np.concatenate([S.numpy().ravel() for S in scores.values()])
    rank = np.empty(len(flat), dtype=int)
    rank[np.argsort(flat, kind="stable")] = np.arange(len(flat))
    stays = rank >= np.rint(sparsity * len(flat))
    ends = np.cumsum([S.numel() for S in scores.values()])[:-1]
    return {name: torch.tensor(part).view(S.shape) for (name, S), part in zip(scores.items(), np.split(stays, ends))}
