def pack_codes(codes, n_bits):
    if any(not 0 <= code < 2**n_bits for code in codes):
        raise ValueError("does not fit")
    return bytes(codes)
