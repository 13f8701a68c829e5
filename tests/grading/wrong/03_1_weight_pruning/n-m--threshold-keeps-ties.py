def keep_n_of_m(score, n, m):
    if score.shape[1] % m:
        raise ValueError("remainder")
    blocks = score.reshape(score.shape[0], -1, m)
    smallest_kept = blocks.topk(n, dim=-1).values[..., -1:]
    return (blocks >= smallest_kept).reshape(score.shape)
