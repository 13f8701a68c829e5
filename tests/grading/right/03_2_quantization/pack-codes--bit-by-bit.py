def pack_codes(codes, n_bits):
    out = bytearray((len(codes) * n_bits + 7) // 8)
    for i, code in enumerate(codes):
        if code < 0 or code >> n_bits:
            raise ValueError(f"{code} needs more than {n_bits} bits")
        for k in range(n_bits):
            at = i * n_bits + k
            out[at // 8] |= (code >> k & 1) << at % 8
    return bytes(out)
