def accumulate(pieces):
    return sum(n * G for G, n in pieces if n)
