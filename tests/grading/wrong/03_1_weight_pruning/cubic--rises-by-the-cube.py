def sparsity_due(step, n_steps, final, initial=0.0, start=0):
    u = min(max((step - start) / n_steps, 0.0), 1.0)
    return initial + (final - initial) * u**3
