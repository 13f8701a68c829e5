def pack_codes(codes, n_bits):
    stream = sum(code << (i * n_bits) for i, code in enumerate(codes))
    if any(not 0 <= code < 2**n_bits for code in codes):
        raise ValueError("does not fit")
    n_bytes = len(codes) * n_bits // 8
    return (stream % 256**n_bytes).to_bytes(n_bytes, "little")
