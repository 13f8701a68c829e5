def pack_codes(codes, n_bits):
    if any(not 0 <= code < 2**n_bits for code in codes):
        raise ValueError("does not fit")
    out = bytearray(-(-len(codes) * n_bits // 8) + 1)
    for i, code in enumerate(codes):
        j, shift = divmod(i * n_bits, 8)
        out[j] |= (code << shift) & 255
        out[j + 1] |= (code >> (8 - shift)) & 255
    return bytes(out[:-1])
