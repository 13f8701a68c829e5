def accumulate(pieces):
    return sum(G for G, n in pieces if n)
