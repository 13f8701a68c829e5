def remove_units(W1, b1, W2, b2, keep, X=None):
    bias = b2.clone()
    if X is not None:
        H = X @ W1.T + b1
        bias += W2[:, ~keep] @ H[:, ~keep].mean(dim=0)
    return W1[keep], b1[keep], W2[:, keep], bias
