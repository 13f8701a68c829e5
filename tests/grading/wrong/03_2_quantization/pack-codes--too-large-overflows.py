def pack_codes(codes, n_bits):
    stream = sum((code % 2**n_bits) << (i * n_bits) for i, code in enumerate(codes))
    return stream.to_bytes(-(-len(codes) * n_bits // 8), "little")
