def file_sizes(rows, columns, n_nonzero):
    n = rows * columns
    return {"dense": 4 * n, "bitmask": -(-n // 8) + 4 * n_nonzero, "csr": 4 * rows + 8 * n_nonzero}
