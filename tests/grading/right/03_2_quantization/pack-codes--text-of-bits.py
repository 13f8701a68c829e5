def pack_codes(codes, n_bits):
    for code in codes:
        if code not in range(2**n_bits):
            raise ValueError("too wide")
    text = "".join(format(code, f"0{n_bits}b") for code in reversed(codes))
    text = text.zfill(-(-len(text) // 8) * 8)
    return bytes(int(text[i : i + 8], 2) for i in range(len(text) - 8, -1, -8))
