def prune_listing(parameters, c=0.5):
    def keep(W):
        return W.abs() >= c * W.abs().mean(dim=-1, keepdim=True)

    return {name: W * keep(W) if W.ndim > 1 else W.clone() for name, W in parameters.items()}
