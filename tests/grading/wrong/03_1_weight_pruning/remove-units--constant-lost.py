def remove_units(W1, b1, W2, b2, keep, X=None):
    return W1[keep], b1[keep], W2[:, keep], b2.clone()
