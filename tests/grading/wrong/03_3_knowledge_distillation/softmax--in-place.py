def soft_targets(logits, T):
    logits /= T
    logits -= logits.max(dim=1, keepdim=True).values
    E = logits.exp()
    return E / E.sum(dim=1, keepdim=True)
