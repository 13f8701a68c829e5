def prune_listing(parameters, c=0.5):
    return {name: W * (W.abs() >= c * W.abs().mean()) if W.ndim > 1 else W.clone() for name, W in parameters.items()}
