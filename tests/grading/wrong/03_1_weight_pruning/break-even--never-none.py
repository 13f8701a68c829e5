def csr_break_even(rows, columns):
    n = rows * columns
    return (n + rows + 1) // 2 + 1
