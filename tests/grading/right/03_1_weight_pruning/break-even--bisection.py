def csr_break_even(rows, columns):
    n = rows * columns

    def smaller(zeros):
        return 4 * (rows + 1) + 8 * (n - zeros) < 4 * n

    if not smaller(n):
        return None
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if smaller(middle) else (middle + 1, high)
    return low
