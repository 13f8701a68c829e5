"""The wire between the grader and a worker: plain data in frames, and nothing that could run.

A frame is

    magic "MOC1" (4) | length of the header, u32 | length of the payload, u64 | header | payload

little-endian. The header is one JSON value in UTF-8; the payload holds the bytes of all arrays, one after the other, in the
order in which the header names them. JSON's own numbers, strings, true, false and null stand for themselves; everything else
is an object with one key:

    {"l": [..]} list   {"t": [..]} tuple   {"d": [[key, value], ..]} dict   {"f": "nan" | "inf" | "-inf"} float
    {"a": [kind, dtype, shape]} array, kind "numpy", "tensor" or "bytes"

Whoever runs a student's code is not believed: `decode` accepts these forms, the dtypes of DTYPES and the limits below, and
raises `WireError` for every other byte. There is no pickle, no object dtype, no class and no name to look up. A tensor
arrives at the grader as `Tensor`, a numpy array that remembers where it came from: the grader itself needs no torch.
What `encode` lets out, `decode` lets in: both keep the same limits. The worst frames found within them, 70,000 small
arrays, cost 1 s of one core, and 100 MB beside the frame and its arrays (64 MB each).

A well-kept library would be msgpack with its numpy extension; it decodes object arrays by pickle, which is the hole that this
file exists to close.
"""

import json
import math
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

MAGIC = b"MOC1"
HEAD = struct.Struct("<4sIQ")
MAX_HEADER = 2_000_000  # bytes of JSON
MAX_PAYLOAD = 64_000_000  # bytes of arrays
MAX_DEPTH = 32
MAX_NODES = 100_000
MAX_NDIM = 8
MAX_LENGTH = 64_000_000  # of one axis, and of all axes that are not empty together: numpy multiplies them even around a 0
INT_RANGE = 2**63  # a Python integer must fit into 64 bits
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("bool", *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64)), "float16", "float32", "float64")
}
KINDS = ("numpy", "tensor", "bytes")


class WireError(ValueError):
    """What arrived is not a frame of plain data, or what should leave is none."""


class Tensor(np.ndarray):
    """A numpy array that is a torch tensor on the other side of the wire."""

    @classmethod
    def of(cls, values) -> "Tensor":
        """The values as an array that travels as a tensor."""
        return np.asarray(values).view(cls)


def encode(value: Any) -> bytes:
    """The frame of a value. WireError, and nothing else, names the first part that is no plain data.

    A subclass of str, int, float, list, tuple, dict or bytes travels as the plain value inside it: none of its own methods is
    asked. A numpy scalar travels as an array (float64 is a float). Torch tensors travel detached; types of fewer bits than
    float16, and bfloat16, travel as float32, which holds them exactly.
    """
    writer = _Writer()
    try:
        tree = writer.tree(value, 0)
    except WireError:
        raise
    except Exception as error:  # a tensor without storage, a dict that changes meanwhile, a class that lies about itself
        raise WireError(f"a value that cannot be read ({type(error).__name__})") from None
    header = json.dumps(tree, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    if len(header) > MAX_HEADER:
        raise WireError(f"a header of {len(header):,} bytes, at most {MAX_HEADER:,} travel")
    _must_be_few_parts(header)
    payload = (chunk.tobytes() for chunk in writer.chunks)
    return b"".join([HEAD.pack(MAGIC, len(header), writer.n_bytes), header, *payload])


class _Writer:
    """Turns a value into its JSON tree and the arrays in it, and stops at the limits before it copies anything large."""

    def __init__(self):
        self.chunks: list[np.ndarray] = []
        self.n_nodes = self.n_bytes = self.n_characters = 0

    def tree(self, value: Any, depth: int) -> Any:
        """The JSON form of a value. `type(value)` is asked and not `isinstance`, which believes what an object says."""
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise WireError(f"more than {MAX_NODES:,} values, or nested deeper than {MAX_DEPTH}")
        kind = type(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, str | int):
            return self._atom(value, kind)
        if issubclass(kind, float):
            value = float.__float__(value)
            return value if math.isfinite(value) else {"f": str(value)}
        if issubclass(kind, list):
            return {"l": [self.tree(item, depth + 1) for item in list.__iter__(value)]}
        if issubclass(kind, tuple):
            return {"t": [self.tree(item, depth + 1) for item in tuple.__iter__(value)]}
        if issubclass(kind, dict):
            return self._dict(value, depth)
        return self._array(*_as_array(value, kind))

    def _atom(self, value: Any, kind: type) -> str | int | bool:
        """A string or an integer without its subclass."""
        if kind is bool:
            return value
        if issubclass(kind, int):
            value = int.__int__(value)
            if not -INT_RANGE <= value < INT_RANGE:
                raise WireError("an integer that does not fit into 64 bits")
            return value
        value = str.__str__(value)
        self.n_characters += len(value)
        if self.n_characters > MAX_HEADER:
            raise WireError(f"strings of more than {MAX_HEADER:,} characters")
        return _text(value)

    def _dict(self, value: dict, depth: int) -> dict:
        pairs = []
        for key, item in dict.items(value):
            if not issubclass(type(key), str | int):
                raise WireError(f"a key of type {type(key).__name__}; keys are strings or integers")
            pairs.append([self._atom(key, type(key)), self.tree(item, depth + 1)])
        if len({key for key, _ in pairs}) != len(pairs):  # possible with a subclass that compares in its own way
            raise WireError("a key that stands twice")
        return {"d": pairs}

    def _array(self, kind: str, array: np.ndarray) -> dict:
        if array.dtype.name not in DTYPES:
            raise WireError(f"an array of dtype {array.dtype.name}; known are {', '.join(DTYPES)}")
        if array.ndim > MAX_NDIM:
            raise WireError(f"an array of {array.ndim} dimensions, at most {MAX_NDIM} travel")
        if math.prod(n for n in array.shape if n) > MAX_LENGTH:
            raise WireError(f"an array of more than {MAX_LENGTH:,} places")
        self.n_bytes += array.nbytes  # of the values, also where a stride of 0 stores them once
        if self.n_bytes > MAX_PAYLOAD:
            raise WireError(f"arrays of more than {MAX_PAYLOAD:,} bytes")
        self.chunks.append(np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name]))
        return {"a": [kind, array.dtype.name, list(array.shape)]}


def _text(value: str) -> str:
    """The string itself. Half a surrogate pair is refused: it is no text, and JSON would make one character of two halves."""
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise WireError("a string with half a surrogate pair") from None
    return value


def _as_array(value: Any, kind: type) -> tuple[str, np.ndarray]:
    """(kind, array) of anything that is stored as bytes; WireError for all else."""
    if issubclass(kind, bytes):
        return "bytes", np.frombuffer(bytes.__getitem__(value, slice(None)), dtype=np.uint8)
    if issubclass(kind, bytearray):
        return "bytes", np.frombuffer(bytearray.__getitem__(value, slice(None)), dtype=np.uint8)
    if issubclass(kind, np.ndarray | np.generic):
        return "tensor" if issubclass(kind, Tensor) else "numpy", np.asarray(value)
    torch = sys.modules.get("torch")  # where there is a tensor, torch has been imported; the grader never imports it
    if torch is not None and issubclass(kind, torch.Tensor):
        value = value.detach().cpu()
        if value.dtype == torch.bfloat16 or (value.is_floating_point() and value.itemsize == 1):
            value = value.float()
        return "tensor", value.resolve_conj().resolve_neg().numpy()
    raise WireError(f"a value of type {kind.__name__}; plain data are numbers, strings, lists, tuples, dicts and arrays")


def lengths(head: bytes) -> tuple[int, int]:
    """(bytes of the header, bytes of the payload) that the first 16 bytes of a frame announce, checked against the limits."""
    if len(head) != HEAD.size:
        raise WireError(f"a frame begins with {HEAD.size} bytes, got {len(head)}")
    magic, n_header, n_payload = HEAD.unpack(head)
    if magic != MAGIC:
        raise WireError("not a frame: it does not begin with MOC1")
    if n_header > MAX_HEADER or n_payload > MAX_PAYLOAD:
        raise WireError("a frame that announces more bytes than may travel")
    return n_header, n_payload


def decode(frame: bytes, as_tensor: Callable[[np.ndarray], Any] = Tensor.of) -> Any:
    """The value of a frame, exactly as long as it announces. WireError for anything else.

    Arrays are fresh: native byte order, C order, writable, sharing no memory with the frame. Strings can be encoded.
    """
    n_header, n_payload = lengths(frame[: HEAD.size])
    if len(frame) != HEAD.size + n_header + n_payload:
        raise WireError(f"a frame of {len(frame)} bytes that announces {HEAD.size + n_header + n_payload}")
    header = frame[HEAD.size : HEAD.size + n_header]
    _must_be_few_parts(header)
    try:
        tree = json.loads(
            header.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_small_int, object_pairs_hook=_one_pair
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WireError(f"the header is not JSON ({type(error).__name__})") from None
    reader = _Reader(memoryview(frame)[HEAD.size + n_header :], as_tensor)
    value = reader.value(tree, 0)
    if reader.offset != n_payload:
        raise WireError(f"{n_payload - reader.offset} bytes of the payload belong to no array")
    return value


def _must_be_few_parts(header: bytes) -> None:
    """Refuse a header with more brackets than MAX_NODES values have (also in its strings), before JSON builds anything."""
    if header.count(b"{") > MAX_NODES or header.count(b"[") > 3 * MAX_NODES:
        raise WireError(f"brackets of more than {MAX_NODES:,} values")


def _refuse_constant(name: str) -> None:
    raise WireError(f"{name} outside its tag")


def _one_pair(pairs: list[tuple[str, Any]]) -> dict:
    """A tag and its content. A plain dict would let the second of two equal tags win in silence."""
    if len(pairs) != 1:
        raise WireError("an object with more or less than one tag")
    return dict(pairs)


def _small_int(digits: str) -> int:
    """An integer of JSON, bounded before Python spends time on thousands of digits."""
    number = int(digits) if len(digits) <= 20 else INT_RANGE
    if not -INT_RANGE <= number < INT_RANGE:
        raise WireError("an integer that does not fit into 64 bits")
    return number


class _Reader:
    """Turns the JSON tree back into values, taking the arrays from the payload one after the other."""

    def __init__(self, payload: memoryview, as_tensor: Callable[[np.ndarray], Any]):
        self.payload, self.as_tensor = payload, as_tensor
        self.offset, self.n_nodes = 0, 0

    def value(self, tree: Any, depth: int) -> Any:
        """The value of one node of the tree."""
        self.n_nodes += 1
        if self.n_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise WireError("too many values, or nested too deep")
        if tree is None or isinstance(tree, bool | int):
            return tree
        if isinstance(tree, str):
            return _text(tree)
        if isinstance(tree, float):
            if not math.isfinite(tree):  # 1e999 is valid JSON
                raise WireError("a number beyond the range of float64")
            return tree
        if not isinstance(tree, dict):
            raise WireError("a part of the header is none of the known forms")
        ((tag, content),) = tree.items()
        if tag == "f":
            if content not in ("nan", "inf", "-inf"):
                raise WireError("an unknown special number")
            return float(content)
        if not isinstance(content, list):
            raise WireError("a tag without its list")
        if tag in ("l", "t"):
            return (list if tag == "l" else tuple)(self.value(item, depth + 1) for item in content)
        if tag == "d":
            return self._dict(content, depth)
        if tag == "a":
            return self._array(content)
        raise WireError("an unknown tag")

    def _dict(self, content: list, depth: int) -> dict:
        found = {}
        for pair in content:
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str | int):
                raise WireError("a dict is a list of pairs whose keys are strings or integers")
            if pair[0] in found:
                raise WireError("a key that stands twice")
            key = _text(pair[0]) if isinstance(pair[0], str) else pair[0]
            found[key] = self.value(pair[1], depth + 1)
        return found

    def _array(self, content: list) -> Any:
        if len(content) != 3 or content[0] not in KINDS or not isinstance(content[1], str) or content[1] not in DTYPES:
            raise WireError("an array of unknown kind or dtype")
        kind, dtype, shape = content[0], DTYPES[content[1]], content[2]
        if not isinstance(shape, list) or len(shape) > MAX_NDIM:
            raise WireError("an array without a shape, or with too many dimensions")
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in shape):
            raise WireError("a shape that is no list of lengths")
        if math.prod(n for n in shape if n) > MAX_LENGTH:
            raise WireError("an array of too many places")
        n_values = math.prod(shape)
        start, self.offset = self.offset, self.offset + n_values * dtype.itemsize
        if self.offset > len(self.payload):
            raise WireError("an array that is longer than the payload")
        raw = self.payload[start : self.offset]
        if kind == "bytes":
            if content[1] != "uint8" or len(shape) != 1:
                raise WireError("bytes are one row of uint8")
            return bytes(raw)
        if content[1] == "bool" and n_values and np.frombuffer(raw, dtype=np.uint8).max() > 1:
            raise WireError("a boolean that is neither 0 nor 1")
        array = np.frombuffer(raw, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
        return self.as_tensor(array) if kind == "tensor" else array
