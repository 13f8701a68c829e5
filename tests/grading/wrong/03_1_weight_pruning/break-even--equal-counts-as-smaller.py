def csr_break_even(rows, columns):
    n = rows * columns
    zeros = -(-(n + rows + 1) // 2)
    return zeros if zeros <= n else None
