"""Real files: tensors to bytes on a disk, and back in a process that knows nothing else (sections 3 and 4).

container      the file: magic, version, header, sections, checksum; written whole or not at all
codecs         one tensor to the bytes of one section, and back: dense, sparse
codebooks      likewise for tensors of few distinct values: packed, Huffman, range-coded, Han et al.'s format
sizes          how many bytes each codec will take, predicted from shape, density and bits
"""

from course_lib.storage.codecs import CODECS, decode_tensor, encode_tensor
from course_lib.storage.container import Section, file_sections, load_tensors, save_tensors
from course_lib.storage.sizes import n_filler_zeros, predicted_bytes

__all__ = [
    "CODECS",
    "Section",
    "decode_tensor",
    "encode_tensor",
    "file_sections",
    "load_tensors",
    "n_filler_zeros",
    "predicted_bytes",
    "save_tensors",
]
