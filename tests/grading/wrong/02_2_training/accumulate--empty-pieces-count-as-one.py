def accumulate(pieces):
    total = sum(max(n, 1) for _, n in pieces)
    return sum(n / total * G for G, n in pieces if n)
