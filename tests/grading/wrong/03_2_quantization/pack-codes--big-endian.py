def pack_codes(codes, n_bits):
    stream = 0
    for code in codes:
        if not 0 <= code < 2**n_bits:
            raise ValueError("does not fit")
        stream = stream << n_bits | code
    return stream.to_bytes(-(-len(codes) * n_bits // 8), "big")
