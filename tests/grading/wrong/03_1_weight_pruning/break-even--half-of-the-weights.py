def csr_break_even(rows, columns):
    return rows * columns // 2 + 1
