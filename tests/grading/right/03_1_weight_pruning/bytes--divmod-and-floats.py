def file_sizes(rows, columns, n_nonzero):
    whole, rest = divmod(rows * columns, 8)
    values = 4.0 * n_nonzero
    return {"csr": 4.0 * (rows + 1) + 2 * values, "bitmask": whole + bool(rest) + values, "dense": rows * columns * 4.0}
