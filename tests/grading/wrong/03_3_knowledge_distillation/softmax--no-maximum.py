def soft_targets(logits, T):
    E = (logits / T).exp()
    return E / E.sum(dim=1, keepdim=True)
