from math import ceil


def file_sizes(rows, columns, n_nonzero):
    n = rows * columns
    return {"dense": 4 * n, "bitmask": ceil(n / 8) + 4 * n_nonzero, "csr": 4 * (rows + 1 + 2 * n_nonzero)}
