def csr_break_even(rows, columns):
    n = rows * columns
    for zeros in range(n + 1):
        if 4 * (rows + 1) + 8 * (n - zeros) < 4 * n:
            return zeros
    return None
