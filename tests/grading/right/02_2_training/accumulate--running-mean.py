def accumulate(pieces):
    mean, n = 0.0, 0
    for G, count in pieces:
        if count == 0:
            continue
        n += count
        mean = mean + (G - mean) * (count / n)
    return mean
