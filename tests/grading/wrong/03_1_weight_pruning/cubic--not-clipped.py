def sparsity_due(step, n_steps, final, initial=0.0, start=0):
    return final + (initial - final) * (1 - (step - start) / n_steps) ** 3
