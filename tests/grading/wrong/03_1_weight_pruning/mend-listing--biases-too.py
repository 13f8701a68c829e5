def prune_listing(parameters, c=0.5):
    pruned = {}
    for name, W in parameters.items():
        rows = W.abs().flatten(1) if W.ndim > 1 else W.abs()[None]
        pruned[name] = W * (rows >= c * rows.mean(dim=1, keepdim=True)).reshape(W.shape)
    return pruned
