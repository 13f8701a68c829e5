import numpy as np


def pack_codes(codes, n_bits):
    q = np.asarray(codes, dtype=np.int64)
    if ((q < 0) | (q >= 2**n_bits)).any():
        raise ValueError("codes out of range")
    bits = (q[:, None] >> np.arange(n_bits)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()
