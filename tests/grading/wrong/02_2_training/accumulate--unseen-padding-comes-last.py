def accumulate(pieces):
    total, result = 0, None
    for G, n in pieces:
        if total and not n:
            break
        total, result = total + n, n * G if result is None else result + n * G
    return result / total
