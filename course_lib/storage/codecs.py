r"""One tensor to the bytes of one section, and back (sections 3.1, 3.2 and 4).

    name                     keeps               takes         file
    raw                      everything          any type      the tensor's own bytes
    fp32                     everything          float32       dense
    fp16, int8, int4         rounds              float32       dense
    csr, bitmask             everything          float32       sparse
    relative4, relative8     everything          float32       sparse
    packed                   everything          any, K <= 256 distinct values       codebooks
    huffman, range           everything          any, K <= 65,536                    codebooks
    han4, han8               everything          any, K <= 65,536                    codebooks

A section does not name its shape, type or codec: the container does, once. So a section is as long as its formula says and
`len(encode_tensor(W, codec))` is the number to compare with `predicted_bytes`.
"""

import math
from functools import partial

import torch
from jaxtyping import Shaped
from torch import Tensor

from course_lib._check import check_choice, check_tensor
from course_lib.storage import codebooks, dense, sparse
from course_lib.storage._bytes import ByteReader

# The order is part of the file format: a file names codec and type by their place. Append, never reorder.
CODECS = ("raw", "fp32", "fp16", "int8", "int4", "csr", "bitmask", "relative4", "relative8", "packed", "huffman", "range")
CODECS += ("han4", "han8")
DTYPES = {torch.float32: "<f4", torch.float64: "<f8", torch.float16: "<f2", torch.int64: "<i8", torch.int32: "<i4"}
DTYPES |= {torch.int16: "<i2", torch.int8: "i1", torch.uint8: "u1", torch.bool: "?"}
MAX_ELEMENTS = 1 << 32

_FLOAT_CODECS = {
    "fp32": (dense._encode_fp32, dense._decode_fp32),
    "fp16": (dense._encode_fp16, dense._decode_fp16),
    "int8": (dense._encode_int8, dense._decode_int8),
    "int4": (dense._encode_int4, dense._decode_int4),
    "csr": (sparse._encode_csr, sparse._decode_csr),
    "bitmask": (sparse._encode_bitmask, sparse._decode_bitmask),
    "relative4": (partial(sparse._encode_relative, n_bits=4), partial(sparse._decode_relative, n_bits=4)),
    "relative8": (partial(sparse._encode_relative, n_bits=8), partial(sparse._decode_relative, n_bits=8)),
}
_TABLE_CODECS = {
    "packed": (codebooks._encode_packed, codebooks._decode_packed),
    "huffman": (codebooks._encode_huffman, codebooks._decode_huffman),
    "range": (codebooks._encode_range, codebooks._decode_range),
    "han4": (partial(codebooks._encode_han, n_bits=4), partial(codebooks._decode_han, n_bits=4)),
    "han8": (partial(codebooks._encode_han, n_bits=8), partial(codebooks._decode_han, n_bits=8)),
}


def encode_tensor(X: Shaped[Tensor, "*shape"], codec: str) -> bytes:
    r"""The bytes of one section. The formulas of the layouts stand in `dense`, `sparse` and `codebooks`.

    $$ \mathrm{decode}(\mathrm{encode}(X)) = X \quad\text{except fp16, int8, int4, which round} $$

    X: any shape; an empty tensor gives no bytes.  codec: one of `CODECS`.
    Raises TypeError for a type the codec does not take, ValueError for an unknown codec, NaN, or values it cannot hold.
    Source: the course's own format; han4 and han8 after Han et al. 2016, section 2 to 4.  Notebook: 02_1_core_concepts.
    """
    check_choice("encode_tensor", "codec", codec, CODECS)
    if not isinstance(X, Tensor):
        raise TypeError(f"encode_tensor: X must be a torch.Tensor, got {type(X).__name__}")
    if X.dtype not in DTYPES:
        raise TypeError(f"encode_tensor: no file type for {X.dtype}; known: {', '.join(map(str, DTYPES))}")
    if codec in _FLOAT_CODECS and X.dtype != torch.float32:
        raise TypeError(f"encode_tensor: codec {codec!r} takes float32, got {X.dtype}; use 'raw', or X.float()")
    if X.numel() == 0:
        return b""
    data = X.detach().cpu().contiguous().numpy()
    if codec == "raw":
        return data.astype(DTYPES[X.dtype]).tobytes()
    check_tensor("encode_tensor", "X", X)
    return (_FLOAT_CODECS.get(codec) or _TABLE_CODECS[codec])[0](data)


def decode_tensor(data: bytes, codec: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Shaped[Tensor, "..."]:
    r"""The inverse of `encode_tensor`, given what the section does not say: codec, shape and type.

    $$ \hat X = \mathrm{decode}(\mathrm{encode}(X)) $$

    Raises ValueError where the bytes are too few, too many, or contradict themselves.
    Source: as `encode_tensor`.  Notebook: 02_1_core_concepts.
    """
    check_choice("decode_tensor", "codec", codec, CODECS)
    if dtype not in DTYPES or (codec in _FLOAT_CODECS and dtype != torch.float32):
        raise ValueError(f"decode_tensor: codec {codec!r} does not hold {dtype}")
    n, reader = math.prod(shape), ByteReader(data, f"the section ({codec})")
    if n > MAX_ELEMENTS:
        raise ValueError(f"decode_tensor: {n} elements are beyond this format's {MAX_ELEMENTS}")
    if n == 0:
        X = torch.zeros(shape, dtype=dtype)
    elif codec == "raw":
        X = torch.from_numpy(reader.array(DTYPES[dtype], n).reshape(shape))
    elif codec in _FLOAT_CODECS:
        X = _FLOAT_CODECS[codec][1](reader, shape)
    else:
        X = _TABLE_CODECS[codec][1](reader, shape, DTYPES[dtype])
    reader.end()
    return X
