def prune_listing(parameters, c=0.5):
    pruned = {}
    for name, W in parameters.items():
        rows = W.abs().flatten(1) if W.ndim > 1 else None
        pruned[name] = W.clone() if rows is None else W * (rows > c * rows.mean(dim=1, keepdim=True)).reshape(W.shape)
    return pruned
