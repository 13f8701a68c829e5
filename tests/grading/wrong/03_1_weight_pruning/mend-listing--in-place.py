def prune_listing(parameters, c=0.5):
    for W in parameters.values():
        if W.ndim > 1:
            rows = W.abs().flatten(1)
            W.mul_((rows >= c * rows.mean(dim=1, keepdim=True)).reshape(W.shape))
    return parameters
