def accumulate(pieces):
    total = sum(n for _, n in pieces)
    return sum(n / total * G for G, n in pieces)
