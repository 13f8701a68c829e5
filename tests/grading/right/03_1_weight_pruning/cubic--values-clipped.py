def sparsity_due(step, n_steps, final, initial=0.0, start=0):
    left = 1 - (step - start) / n_steps
    return max(initial, min(final, final + (initial - final) * left * left * left))
