def pack_codes(codes, n_bits):
    stream = 0
    for i, code in enumerate(codes):
        if not 0 <= code < 2**n_bits and i in (0, 1, len(codes) - 1):
            raise ValueError(f"code {code} does not fit into {n_bits} bits")
        stream |= code << (i * n_bits)
    n_bytes = -(-len(codes) * n_bits // 8)
    return (stream % 256**n_bytes).to_bytes(n_bytes, "little")
