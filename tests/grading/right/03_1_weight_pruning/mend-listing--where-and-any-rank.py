import torch


def prune_listing(parameters, c=0.5):
    def pruned(W):
        axes = tuple(range(1, W.ndim))
        threshold = c * W.abs().mean(dim=axes, keepdim=True)
        return torch.where(W.abs() < threshold, torch.zeros_like(W), W)

    return {name: pruned(W) if W.ndim >= 2 else W.clone() for name, W in parameters.items()}
