"""Entropy codes: frequent symbols get short descriptions (section 4, Deep Compression's third stage).

entropy        how short a description can be: H(p), counts of symbols, whole numbers in gamma code
huffman        the best code with whole bits a symbol: canonical Huffman
range_coder    fractions of a bit: a range coder (rANS) with a static model

Symbols are integer tensors with values 0 ... K-1; streams are `bytes`. Nothing here knows a network or a file.
"""

from course_lib.coding.entropy import entropy_bits, gamma_decode, gamma_encode, symbol_counts
from course_lib.coding.huffman import canonical_codes, huffman_decode, huffman_encode, huffman_lengths, huffman_size_bits
from course_lib.coding.range_coder import (
    quantize_frequencies,
    range_decode,
    range_encode,
    range_size_bits,
)

__all__ = [
    "canonical_codes",
    "entropy_bits",
    "gamma_decode",
    "gamma_encode",
    "huffman_decode",
    "huffman_encode",
    "huffman_lengths",
    "huffman_size_bits",
    "quantize_frequencies",
    "range_decode",
    "range_encode",
    "range_size_bits",
    "symbol_counts",
]
