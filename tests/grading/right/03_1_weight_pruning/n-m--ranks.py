def keep_n_of_m(score, n, m):
    if score.shape[1] % m != 0:
        raise ValueError(f"{score.shape[1]} is not a multiple of {m}")
    ranks = score.reshape(-1, m).argsort(dim=1, stable=True).argsort(dim=1)
    return (ranks >= m - n).reshape(score.shape)
