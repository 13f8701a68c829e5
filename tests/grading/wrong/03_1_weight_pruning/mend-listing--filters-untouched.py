def prune_listing(parameters, c=0.5):
    pruned = {}
    for name, W in parameters.items():
        keep = W.abs() >= c * W.abs().mean(dim=1, keepdim=True) if W.ndim == 2 else W == W
        pruned[name] = W * keep
    return pruned
