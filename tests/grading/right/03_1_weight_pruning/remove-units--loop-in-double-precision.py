def remove_units(W1, b1, W2, b2, keep, X=None):
    bias = b2.double()
    for i in range(len(keep)):
        if X is not None and not keep[i]:
            h = [max(float(x.double() @ W1[i].double() + b1[i]), 0.0) for x in X]
            bias = bias + W2[:, i].double() * (sum(h) / len(h))
    kept = [i for i in range(len(keep)) if keep[i]]
    return [W1[kept], b1[kept], W2[:, kept], bias.to(b2.dtype)]
