def sparsity_due(step, n_steps, final, initial=0.0, start=0):
    if step <= start:
        return initial
    if step >= start + n_steps:
        return final
    left = (start + n_steps - step) / n_steps
    return final * (1 - left**3) + initial * left**3
