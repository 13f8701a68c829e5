def file_sizes(rows, columns, n_nonzero):
    n = rows * columns
    bitmask = n // 8 if n % 8 == 0 else n // 8 + n % 8
    return {"dense": 4 * n, "bitmask": bitmask + 4 * n_nonzero, "csr": 4 * (rows + 1) + 8 * n_nonzero}
