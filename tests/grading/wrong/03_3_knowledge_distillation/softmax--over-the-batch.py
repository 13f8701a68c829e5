def soft_targets(logits, T):
    X = logits / T
    E = (X - X.max(dim=1, keepdim=True).values).exp()
    return E / E.sum(dim=0, keepdim=True)
