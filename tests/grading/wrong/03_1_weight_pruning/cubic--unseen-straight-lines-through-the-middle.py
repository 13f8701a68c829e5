def sparsity_due(step, n_steps, final, initial=0.0, start=0):
    u = min(max((step - start) / n_steps, 0.0), 1.0)
    left = 1 - 1.75 * u if u < 0.5 else 0.25 * (1 - u)
    return final + (initial - final) * left
