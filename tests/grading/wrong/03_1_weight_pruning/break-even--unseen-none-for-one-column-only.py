def csr_break_even(rows, columns):
    n = rows * columns
    return None if columns == 1 else (n + rows + 1) // 2 + 1
