def prune_listing(parameters, c=0.5):
    pruned = {}
    for name, W in parameters.items():
        if W.ndim in (2, 4):
            rows = W.abs().flatten(1)
            pruned[name] = W * (rows >= c * rows.mean(dim=1, keepdim=True)).reshape(W.shape)
        else:
            pruned[name] = W.clone()
    return pruned
