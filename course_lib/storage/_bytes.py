"""Reading bytes front to back, every step checked: a section that ends too early is a ValueError, never an IndexError."""

import numpy as np


def varint(value: int) -> bytes:
    """A whole number >= 0 in base 128, lowest digits first, the top bit of a byte meaning "more" (LEB128)."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class ByteReader:
    """A place in some bytes; each read moves it on."""

    def __init__(self, data: bytes, what: str):
        self.data, self.at, self.what = data, 0, what

    def take(self, n_bytes: int) -> bytes:
        """The next n bytes."""
        if self.at + n_bytes > len(self.data):
            raise ValueError(f"{self.what} ends after {len(self.data)} bytes, {self.at + n_bytes - len(self.data)} too early")
        self.at += n_bytes
        return self.data[self.at - n_bytes : self.at]

    def array(self, dtype: str, count: int) -> np.ndarray:
        """The next `count` numbers of a type, little-endian; a copy that may be written to."""
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype).copy()

    def varint(self) -> int:
        """The next LEB128 number, below 2^63."""
        value = shift = 0
        while (byte := self.take(1)[0]) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 56:
                raise ValueError(f"{self.what} holds a number that is too long")
        return value | byte << shift

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self.data) - self.at)

    def end(self) -> None:
        """Refuse bytes that nobody asked for."""
        if self.at != len(self.data):
            raise ValueError(f"{self.what} holds {len(self.data) - self.at} bytes too many")
