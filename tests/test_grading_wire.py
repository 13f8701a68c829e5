"""The wire carries plain data unchanged, and nothing else leaves. What arrives: tests/test_grading_wire_forged.py."""

import collections
import enum
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grading import wire
from grading.wire import Tensor, WireError, decode, encode

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats()
texts = st.text(max_size=20)
any_dtype = st.sampled_from(list(wire.DTYPES)).flatmap(
    lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder(">")])
)
arrays = hnp.arrays(any_dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3))
atoms = st.none() | st.booleans() | numbers | texts | st.binary(max_size=20) | arrays | arrays.map(Tensor.of)
keys = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans()


def holding(inner):
    """Lists, tuples and dicts of something. Three levels below; hypothesis' own `recursive` warns by chance of its cache."""
    lists = st.lists(inner, max_size=3)
    return lists | lists.map(tuple) | st.dictionaries(keys, inner, max_size=3)


values = atoms | holding(atoms | holding(atoms | holding(atoms)))


def same(a, b) -> bool:
    """Equal in type, shape, dtype and every bit (a NaN is a NaN); byte order does not count."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        native = np.asarray(a, dtype=a.dtype.newbyteorder("="))
        return native.dtype == b.dtype and a.shape == b.shape and native.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return list(map(repr, a)) == list(map(repr, b)) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


# What travels


@given(values)
def test_everything_plain_arrives_as_it_left(value):
    assert same(value, decode(encode(value)))


@given(values)
def test_the_same_value_makes_the_same_frame(value):
    assert encode(value) == encode(decode(encode(value)))


@pytest.mark.parametrize("name", wire.DTYPES)
def test_arrays_in_any_layout_arrive_in_c_order(name):
    base = np.arange(24).reshape(2, 3, 4).astype(name)
    layouts = [
        base.T,
        base[:, ::-1, ::2],
        np.asfortranarray(base),
        np.broadcast_to(base[0, 0], (5, 4)),
        base[:0],
        base[1, 2, 3],
        base[0],
    ]
    for array in [*layouts, base.astype(base.dtype.newbyteorder(">")), np.array(1, dtype=name), np.zeros((3, 0, 2), name)]:
        for made in (np.asarray(array), Tensor.of(array)):
            got = decode(encode(made))
            assert type(got) is type(made) and got.dtype == np.dtype(name) and got.dtype.isnative
            assert got.shape == made.shape and got.flags.c_contiguous and np.array_equal(got, made)


def test_an_array_that_arrives_is_writable_and_nobody_elses():
    sent = encode([np.arange(6), Tensor.of(np.arange(6)), np.array(True)])
    kept = bytes(sent)
    raw = np.frombuffer(sent, dtype=np.uint8)
    got = decode(sent)
    for array in got:
        assert array.flags.writeable and not np.shares_memory(array, raw)
        array[...] = 0
    assert sent == kept and not any(np.shares_memory(a, b) for a, b in [(got[0], got[1]), (got[1], got[2])])


TORCH = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "float32",
    torch.float8_e4m3fn: "float32",
    torch.float8_e5m2: "float32",
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
}


@pytest.mark.parametrize("dtype", TORCH, ids=str)
def test_torch_tensors_arrive_with_their_values(dtype):
    values = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 0.5]]).to(dtype)
    for tensor in (values, values.T, values[:, 1:], values[0, 1], values[:0], torch.nn.Parameter(values, requires_grad=False)):
        got = decode(encode(tensor))
        assert type(got) is Tensor and got.dtype.name == TORCH[dtype] and got.shape == tuple(tensor.shape)
        assert got.tolist() == tensor.double().tolist()


def test_tensors_in_the_middle_of_a_graph_arrive_detached():
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    for tensor in (leaf, leaf * 2, torch.nn.Parameter(leaf.detach())):
        assert decode(encode(tensor)).tolist() == tensor.tolist()
    lazy = torch.tensor([1 + 2j, 3 - 4j]).conj()
    assert decode(encode({"imag": lazy.imag, "real": lazy.real}))["imag"].tolist() == [-2.0, 4.0]


def test_a_tensor_comes_back_as_a_tensor_where_torch_is():
    got = decode(encode([Tensor.of(np.float32([1, 2])), np.float32([1, 2])]), torch.from_numpy)
    assert isinstance(got[0], torch.Tensor) and got[0].dtype == torch.float32 and type(got[1]) is np.ndarray
    got[0] += 1
    assert got[0].tolist() == [2.0, 3.0]


def test_numpy_scalars_and_subclasses_travel_as_what_they_hold():
    class Colour(enum.IntEnum):
        RED = 3

    point = collections.namedtuple("Point", "x y")(1, 2.0)
    assert same(decode(encode([np.float64(0.5), Colour.RED, point, True])), [0.5, 3, (1, 2.0), True])
    assert same(decode(encode([np.str_("a"), np.bytes_(b"b"), bytearray(b"c")])), ["a", b"b", b"c"])
    assert same(decode(encode(np.float32(0.5))), np.array(0.5, np.float32))
    assert same(decode(encode(np.ma.array([1, 2], mask=[0, 1]))), np.array([1, 2]))
    assert same(decode(encode(collections.OrderedDict(b=1, a=2))), {"b": 1, "a": 2})


def nasty(base):
    """A subclass each of whose own methods would raise or lie."""

    def lie(*_):
        raise RuntimeError("asked")

    asked = "__str__ __repr__ __int__ __index__ __float__ __bool__ __iter__ __len__ __hash__ __eq__ __lt__ __le__ __ge__ __gt__"
    asked += " __getitem__ __bytes__ __buffer__ __format__ __reduce__ __reduce_ex__ __array__ __array_finalize__ __contains__"
    methods = dict.fromkeys(asked.split(), lie) | dict.fromkeys(
        ("items", "keys", "encode", "is_integer", "dtype", "shape"), property(lie)
    )
    return type("Nasty", (base,), methods | {"__class__": property(lie)})


@pytest.mark.parametrize("plain", ["text", 7, -(2**63), 0.5, math.inf, [1, [2]], (1, "a"), {"a": 1, 2: []}, b"bytes"], ids=repr)
def test_a_subclass_with_nasty_methods_travels_as_its_plain_value(plain):
    assert same(decode(encode([nasty(type(plain))(plain)])), [plain])


def test_nasty_keys_travel_as_their_plain_value():
    class Key(str):
        def __eq__(self, other):
            return self is other

        __hash__ = object.__hash__

    assert decode(encode({Key("a"): 1})) == {"a": 1}
    with pytest.raises(WireError, match="twice"):
        encode({Key("a"): 1, Key("a"): 2})


# What does not leave


class Anything:
    """A class of a student's."""


class Liar:
    """Says that it is a string."""

    __class__ = str


REFUSED = {
    "set": {1},
    "function": len,
    "lambda": lambda: 0,
    "class": Anything,
    "instance": Anything(),
    "liar": Liar(),
    "complex": 1j,
    "generator": (i for i in ()),
    "range": range(3),
    "module": math,
    "exception": ValueError("x"),
    "object array": np.array([{}, 1], dtype=object),
    "array of strings": np.array(["a"]),
    "array of bytes": np.array([b"a"]),
    "structured array": np.zeros(2, dtype=[("a", "i4")]),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
    "complex array": np.zeros(2, complex),
    "complex scalar": np.complex64(1),
    "long double": np.zeros(2, np.longdouble),
    "complex tensor": torch.zeros(2, dtype=torch.complex64),
    "sparse tensor": torch.eye(2).to_sparse(),
    "tensor without storage": torch.zeros(2, device="meta"),
    "nine dimensions": np.zeros((1,) * 9),
    "a large integer": 2**63,
    "half a surrogate pair": "a\ud800",
    "two halves": "\ud800\udc00",
    "half a pair in a key": {"\udc00": 1},
    "float key": {0.5: 1},
    "None key": {None: 1},
    "tuple key": {(1, 2): 1},
    "a long text": "a" * (wire.MAX_HEADER + 1),
    "long texts": ["a" * 1_000_000] * 3,
    "a text that grows in JSON": "\x00" * (wire.MAX_HEADER // 2),
    "a text of brackets": "{" * (wire.MAX_NODES + 1),
    "too large": np.zeros(wire.MAX_PAYLOAD + 1, dtype=np.int8),
    "too large together": [np.zeros(wire.MAX_PAYLOAD // 2 + 1, dtype=np.int8)] * 2,
    "a stride of 0": np.broadcast_to(np.int8(0), (2**40,)),
    "empty, but of endless rows": np.zeros((2**40, 0)),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_plain_data_is_refused_wherever_it_stands(value):
    for holder in (value, [1, value], {"a": (value,)}):
        with pytest.raises(WireError) as error:
            encode(holder)
        assert 10 < len(str(error.value)) < 250


def test_lists_that_hold_themselves_or_double_at_each_step_are_refused_at_once():
    endless: list = []
    endless.append(endless)
    doubling: list = [0]
    for _ in range(wire.MAX_DEPTH - 1):
        doubling = [doubling, doubling]
    for value in (endless, doubling, [0] * wire.MAX_NODES):
        with pytest.raises(WireError):
            encode(value)


def test_what_just_keeps_the_limits_leaves_and_arrives():
    deep = 0
    for _ in range(wire.MAX_DEPTH):
        deep = [deep]
    for value in (deep, [0] * (wire.MAX_NODES - 1), "a" * (wire.MAX_HEADER - 2), np.zeros((wire.MAX_LENGTH, 0))):
        assert same(decode(encode(value)), value)
    assert decode(encode(np.ones(wire.MAX_PAYLOAD, np.int8))).sum(dtype=int) == wire.MAX_PAYLOAD
    with pytest.raises(WireError):
        encode([deep])
