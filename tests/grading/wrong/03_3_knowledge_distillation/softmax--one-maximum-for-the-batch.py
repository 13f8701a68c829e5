def soft_targets(logits, T):
    E = (logits / T - (logits / T).max()).exp()
    return E / E.sum(dim=1, keepdim=True)
