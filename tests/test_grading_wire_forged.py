"""Whatever bytes a worker sends, `decode` gives plain data or raises WireError, within its limits of memory and time.

The grader runs `decode` on what a student's process wrote, so this file forges: cut frames, flipped bytes, lying lengths,
trees of the wrong shape, and the largest frames that the limits allow.
"""

import contextlib
import json
import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading import wire
from grading.wire import Tensor, WireError, decode, encode

PLAIN = (type(None), bool, int, float, str, bytes, list, tuple, dict, np.ndarray, Tensor)


def is_plain(value) -> bool:
    """Nothing but the types that may arrive, all the way down."""
    if type(value) not in PLAIN or (isinstance(value, np.ndarray) and value.dtype.name not in wire.DTYPES):
        return False
    if isinstance(value, dict):
        return all(type(key) in (str, int, bool) and is_plain(item) for key, item in value.items())
    return all(map(is_plain, value)) if isinstance(value, list | tuple) else True


def frame(header, payload: bytes = b"") -> bytes:
    """A frame with honest lengths around whatever is given: a tree, or the header's text or bytes."""
    header = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return wire.HEAD.pack(wire.MAGIC, len(header), len(payload)) + header + payload


def array_frame(dtype, shape, payload: bytes = b"", kind="numpy") -> bytes:
    return frame({"a": [kind, dtype, shape]}, payload)


EXAMPLE = {
    "f": [1.5, math.nan, -0.0, 12, None, True],
    "t": ("aé", b"\x00\x01"),
    3: [np.arange(3, dtype=np.int16), np.array([True, False]), Tensor.of(np.float32([[1.5]]))],
}


def test_every_truncation_and_every_extension_is_refused():
    whole = encode(EXAMPLE)
    for n in range(len(whole)):
        with pytest.raises(WireError):
            decode(whole[:n])
    for more in (b"\x00", b" ", whole):
        with pytest.raises(WireError):
            decode(whole + more)


def test_every_flipped_byte_is_refused_or_gives_plain_data():
    whole = encode(EXAMPLE)
    n_refused = 0
    for i in range(len(whole)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            changed = bytearray(whole)
            changed[i] ^= flip
            try:
                assert is_plain(decode(bytes(changed))), (i, flip)
            except WireError:
                n_refused += 1
    assert n_refused > len(whole)


words = st.sampled_from(["numpy", "tensor", "bytes", "bool", "int8", "nan", "object", ""])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words


def holding(inner):
    """A part of a header that holds others: a list, a tagged object, an array."""
    kinds, dtypes = st.sampled_from(wire.KINDS), st.sampled_from(list(wire.DTYPES))
    array = st.tuples(kinds, dtypes, st.lists(inner, max_size=2)).map(lambda a: {"a": list(a)})
    tags = st.sampled_from(["l", "t", "d", "f", "a", "x"])
    return st.lists(inner, max_size=4) | st.dictionaries(tags, inner, min_size=1, max_size=1) | array


trees = leaves | holding(leaves | holding(leaves | holding(leaves)))


@given(trees, st.binary(max_size=8))
def test_any_tree_and_any_payload_is_refused_or_gives_plain_data(tree, payload):
    with contextlib.suppress(WireError):
        assert is_plain(decode(frame(tree, payload)))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_give_plain_data(raw):
    for sent in (raw, frame(raw), wire.MAGIC + raw):
        with contextlib.suppress(WireError):
            assert is_plain(decode(sent))


FORGED = {
    "another magic": b"MOC2" + encode(1)[4:],
    "a header as long as 2^32": wire.HEAD.pack(wire.MAGIC, 2**32 - 1, 0),
    "a payload as long as 2^64": wire.HEAD.pack(wire.MAGIC, 1, 2**64 - 1) + b"0",
    "deep lists": frame("[" * 100_000),
    "deep tags": frame('{"l":[' * 100_000),
    "closed deep tags": frame('{"l":[' * 300 + "]}" * 300),
    "one step too deep": frame('{"l":[' * (wire.MAX_DEPTH + 1) + "0" + "]}" * (wire.MAX_DEPTH + 1)),
    "deep in a dict": frame('{"d":[[0,' * 40 + "0" + "]]}" * 40),
    "wide": frame('{"l":[' + "0," * wire.MAX_NODES + "0]}"),
    "two tags": frame({"l": [], "t": []}),
    "the same tag twice": frame('{"l":[],"l":[]}'),
    "no tag": frame({}),
    "an unknown tag": frame({"p": []}),
    "a bare list": frame([1]),
    "a tag without list": frame({"l": "abc"}),
    "a tag in a tag": frame({"l": {"l": []}}),
    "1e999": frame("1e999"),
    "-1e999 inside": frame('{"l":[-1e999]}'),
    "NaN": frame("NaN"),
    "Infinity": frame('{"l":[-Infinity]}'),
    "an unknown special number": frame({"f": "1"}),
    "a special number in a list": frame({"f": ["nan"]}),
    "2^63": frame(str(2**63)),
    "a number of a million digits": frame("9" * 1_000_000),
    "no JSON": frame("{'l': []}"),
    "nothing": frame(""),
    "two values": frame("1 2"),
    "no UTF-8": frame(b'"\xff"'),
    "a surrogate in UTF-8": frame(b'"\xed\xa0\x80"'),
    "half a surrogate pair": frame(r'{"l":["\ud800"]}'),
    "half a pair in a key": frame(r'{"d":[["\udc00",1]]}'),
    "UTF-16": frame("1".encode("utf-16")),
    "a byte order mark": frame(b"\xef\xbb\xbf1"),
    "a pair of three": frame({"d": [[1, 2, 3]]}),
    "a float key": frame({"d": [[1.5, 2]]}),
    "a list as key": frame({"d": [[{"l": []}, 2]]}),
    "None as key": frame({"d": [[None, 2]]}),
    "a key twice": frame({"d": [["a", 1], ["a", 2]]}),
    "equal keys": frame({"d": [[1, 1], [True, 2]]}),
    "object dtype": array_frame("object", [1], b"\0" * 8),
    "object code": array_frame("O", [1], b"\0" * 8),
    "a structured dtype": array_frame("i4,O", [1], b"\0" * 12),
    "a dtype with a byte order": array_frame("<i4", [1], b"\0" * 4),
    "a dtype as list": array_frame([["a", "O"]], [1], b"\0" * 8),
    "text dtype": array_frame("U4", [1], b"\0" * 16),
    "complex dtype": array_frame("complex64", [1], b"\0" * 8),
    "an unknown kind": array_frame("int8", [1], b"\0", kind="pickle"),
    "a kind as list": array_frame("int8", [1], b"\0", kind=["numpy"]),
    "a negative length": array_frame("int8", [-1]),
    "two negative lengths": array_frame("int8", [-1, -1], b"\0"),
    "a boolean length": array_frame("int8", [True], b"\0"),
    "a float length": array_frame("int8", [1.0], b"\0"),
    "a text as shape": array_frame("int8", "1", b"\0"),
    "no shape": frame({"a": ["numpy", "int8"]}),
    "one part too many": frame({"a": ["numpy", "int8", [], 0]}, b"\0"),
    "nine dimensions": array_frame("int8", [1] * 9, b"\0"),
    "a product beyond 64 bits": array_frame("int8", [2**32, 2**32]),
    "a product that wraps to 1": array_frame("int8", [2**62 + 1, 4], b"\0" * 4),
    "empty around a product beyond 64 bits": array_frame("int8", [0, *[60_000_000] * 7]),
    "a large empty axis": array_frame("int8", [0, 2**62]),
    "longer than the payload": array_frame("int64", [2], b"\0" * 15),
    "shorter than the payload": array_frame("int64", [1], b"\0" * 9),
    "two arrays in one payload": frame({"l": [{"a": ["numpy", "int8", [4]]}] * 2}, b"\0" * 4),
    "a payload of nobody": frame(1, b"\0"),
    "a boolean that is 2": array_frame("bool", [2], b"\1\2"),
    "bytes of two rows": array_frame("uint8", [2, 1], b"\0\0", kind="bytes"),
    "bytes of int8": array_frame("int8", [2], b"\0\0", kind="bytes"),
}


@pytest.mark.parametrize("sent", FORGED.values(), ids=FORGED.keys())
def test_a_forged_frame_is_refused(sent):
    with pytest.raises(WireError) as error:
        decode(sent)
    assert 10 < len(str(error.value)) < 120


@pytest.mark.parametrize("n", [0, 1, 15, 17])
def test_a_head_has_sixteen_bytes(n):
    with pytest.raises(WireError):
        wire.lengths(encode(1)[:1] * n)


def test_announced_bytes_are_checked_before_anything_is_read():
    whole = encode(np.zeros(3))
    assert sum(wire.lengths(whole[: wire.HEAD.size])) == len(whole) - wire.HEAD.size
    for head in ((wire.MAX_HEADER + 1, 0), (0, wire.MAX_PAYLOAD + 1)):
        with pytest.raises(WireError):
            wire.lengths(wire.HEAD.pack(wire.MAGIC, *head))


def fill(part: str, separator: str = ",", n: int = wire.MAX_HEADER) -> bytes:
    """A header of a list that repeats one part up to the limit."""
    n = min(n, (wire.MAX_HEADER - 10) // (len(part) + len(separator)))
    return ('{"l":[' + separator.join([part] * n) + "]}").encode()


WORST = {
    "brackets": frame(fill("[]", n=3 * wire.MAX_NODES - 1)),
    "too many brackets": frame(fill("[]")),
    "tags": frame(fill('{"l":[]}', n=wire.MAX_NODES - 1)),
    "towers": frame(fill("[" * 900 + "]" * 900, n=wire.MAX_NODES // 300 - 1)),
    "arrays of one": frame(fill('{"a":["tensor","int8",[1]]}'), b"a" * ((wire.MAX_HEADER - 10) // 28)),
    "a long shape": array_frame("int8", [1] * 600_000),
}


@pytest.mark.parametrize("sent", WORST.values(), ids=WORST.keys())
def test_the_worst_frames_cost_little_time(sent):
    """Under 0.8 s each on the machine where the limits were chosen; 4 s of processor time leave room for slower ones."""
    start = time.process_time()
    with contextlib.suppress(WireError):
        decode(sent)
    assert time.process_time() - start < 4.0


def test_a_frame_costs_its_own_size_and_little_more_memory():
    sent = array_frame("bool", [wire.MAX_PAYLOAD], bytes(wire.MAX_PAYLOAD))
    tracemalloc.start()
    try:
        decode(sent)
        assert tracemalloc.get_traced_memory()[1] < 1.1 * wire.MAX_PAYLOAD
        tracemalloc.reset_peak()
        with pytest.raises(WireError):
            decode(array_frame("float64", [2**25], b""))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
