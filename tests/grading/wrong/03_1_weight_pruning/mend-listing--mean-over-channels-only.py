def prune_listing(parameters, c=0.5):
    pruned = {}
    for name, W in parameters.items():
        pruned[name] = W * (W.abs() >= c * W.abs().mean(dim=1, keepdim=True)) if W.ndim > 1 else W.clone()
    return pruned
