r"""The file: written whole or not at all, read whole or refused (sections 3 and 4).

A size counts only if a fresh process can rebuild the tensors from the file alone. So everything is in it:

    bytes                    content
    0 .. 3                   magic  89 4D 4F 46  (a byte no text starts with, then "MOF")
    4                        version, 1
    5 ..                     number of tensors (varint), then for each: name (length, UTF-8), codec, type (a byte each),
                             number of dimensions, dimensions, length of its section (varints)
    ..                       the sections, in the same order
    last 4                   CRC-32 of all bytes before, little-endian

    (1)  size_bytes  =  10 + sum over tensors (4 + len(name) + dimensions and length, 1 to 5 bytes each)  +  sum of sections

for fewer than 128 tensors with names below 128 bytes (a varint of one byte); a larger number takes a byte more.

A CRC-32 notices every change within 32 neighbouring bits, so every altered byte, and all but one in 4 billion others. It is no
signature: who alters a file on purpose can mend the sum. Nothing of a file is ever executed, which a pickle cannot say.

Writing goes to a new file in the same folder, is forced to the disk, and takes the final name in one step (rename). A reader
sees the old file or the new one; a full disk leaves the old one.

Production: safetensors (JSON header, no checksum, no coding), GGUF; torch.save is a zip of a pickle.
"""

import contextlib
import os
import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from course_lib.storage._bytes import ByteReader, varint
from course_lib.storage.codecs import CODECS, DTYPES, decode_tensor, encode_tensor

MAGIC, VERSION = b"\x89MOF", 1
_DTYPE_ORDER = list(DTYPES)


class Section(NamedTuple):
    r"""What the header says of one tensor, and how many bytes its section takes.

    $$ \mathrm{ratio} = \frac{4 \prod \mathrm{shape}}{\mathrm{size\_bytes}} \quad\text{against fp32} $$

    Source: the course's own format.  Notebook: 02_1_core_concepts.
    """

    codec: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    size_bytes: int


def _codec_of_each(tensors, codec) -> dict[str, str]:
    """The codec of each tensor; what is no {name: tensor}, or no codec, is refused in words."""
    if not isinstance(tensors, Mapping):
        raise TypeError(f"save_tensors: tensors must be a dict {{name: tensor}}, got {type(tensors).__name__}")
    for name, X in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"save_tensors: every name must be text, got {name!r}")
        if not isinstance(X, Tensor):
            raise TypeError(f"save_tensors, tensor {name!r}: a torch.Tensor is needed, got {type(X).__name__}")
    if not isinstance(codec, (str, Mapping)):
        raise TypeError(f"save_tensors: codec must be a name or a dict {{tensor name: codec}}, got {codec!r}")
    codecs = dict.fromkeys(tensors, codec) if isinstance(codec, str) else dict(codec)
    if codecs.keys() != tensors.keys():
        odd = ", ".join(sorted(map(str, codecs.keys() ^ tensors.keys())))
        raise ValueError(f"save_tensors: codec and tensors must name the same tensors; only one of them has {odd}")
    return codecs


def save_tensors(path: str | os.PathLike, tensors: dict[str, Tensor], codec: str | dict[str, str] = "fp32") -> int:
    r"""Write named tensors to one file, whole or not at all; returns its size, eq. (1).

    $$ \mathrm{size\_bytes} = \mathrm{len(file)} = \mathrm{header} + \textstyle\sum_t \mathrm{section}_t + 4 $$

    tensors: for a network, `model.state_dict()`.  codec: one for all, or one for each name (see `CODECS`).
    Raises ValueError or TypeError as `encode_tensor`, for what is no dict of named tensors, and for a codec table that misses
    or invents a name; OSError (with the
    reason) where the file cannot be written. In each case an older file of that name is as it was, and no half file is left.
    Source: the course's own format; CRC-32 as in RFC 1952.  Notebook: 02_1_core_concepts.
    """
    codecs = _codec_of_each(tensors, codec)
    header, sections = [MAGIC, bytes([VERSION]), varint(len(tensors))], []
    for name, X in tensors.items():
        try:
            section = encode_tensor(X, codecs[name])
        except (TypeError, ValueError) as error:
            raise type(error)(f"save_tensors, tensor {name!r}: {error}") from error
        label = name.encode()
        header += [varint(len(label)), label, bytes([CODECS.index(codecs[name]), _DTYPE_ORDER.index(X.dtype)])]
        header += [varint(v) for v in (X.ndim, *X.shape, len(section))]
        sections.append(section)
    body = b"".join(header + sections)
    _write_whole(Path(path), body + zlib.crc32(body).to_bytes(4, "little"))
    return len(body) + 4


def load_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    r"""Read all tensors of a file back, in the order in which they were saved.

    $$ \hat X_t = \mathrm{decode}(\mathrm{section}_t) $$

    Raises FileNotFoundError and other OSError of the system; ValueError for a file that is not ours, of another version, cut
    short, grown or altered.
    Source: the course's own format.  Notebook: 02_1_core_concepts.
    """
    sections, reader = _open_checked("load_tensors", Path(path))
    tensors = {}
    for name, section in sections.items():
        try:
            tensors[name] = decode_tensor(reader.take(section.size_bytes), section.codec, section.shape, section.dtype)
        except (ValueError, RuntimeError, MemoryError, OverflowError) as error:  # torch and numpy refuse absurd shapes so
            raise ValueError(f"load_tensors: {path}, tensor {name!r}: {error}") from error
    reader.end()
    return tensors


def file_sections(path: str | os.PathLike) -> dict[str, Section]:
    r"""What is in a file and where its bytes go, without decoding; checks the file as `load_tensors` does.

    $$ \mathrm{header} = \mathrm{len(file)} - \textstyle\sum_t \mathrm{section}_t $$

    Raises as `load_tensors`.
    Source: the course's own format.  Notebook: 02_1_core_concepts.
    """
    return _open_checked("file_sections", Path(path))[0]


def _open_checked(who: str, path: Path) -> tuple[dict[str, Section], ByteReader]:
    """The header, and a reader that stands before the first section."""
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{who}: {path} is not a file of save_tensors: it does not start with its four magic bytes")
    if len(data) < 10 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError(f"{who}: {path} is damaged: its checksum does not fit its {len(data)} bytes; get it again")
    if data[4] != VERSION:
        raise ValueError(f"{who}: {path} has format version {data[4]}, this library reads {VERSION}")
    reader = ByteReader(data[5:-4], str(path))
    sections = {}
    try:
        for _ in range(reader.varint()):
            name = reader.take(reader.varint()).decode()
            codec, dtype = CODECS[reader.take(1)[0]], _DTYPE_ORDER[reader.take(1)[0]]
            shape = tuple(reader.varint() for _ in range(reader.varint()))
            sections[name] = Section(codec, dtype, shape, reader.varint())
    except (ValueError, IndexError) as error:
        raise ValueError(f"{who}: {path} has a header that makes no sense: {error}") from error
    return sections, reader


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        _remove(part)
        reason = f"save_tensors: could not write {path} ({len(data)} bytes): {error.strerror}; nothing was left behind"
        raise OSError(error.errno, reason) from error
    except BaseException:  # a learner's Ctrl-C must not leave half a file either
        _remove(part)
        raise


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):  # it may never have been made
        part.unlink()
