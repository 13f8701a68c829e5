"""Attacks by lies: answers that return, send, or patch something other than they should. See tests/grading/attacks.py."""

from tests.grading.attacks import TRY, table

WIRE = """
import os, stat, struct, threading, time
GOOD = '{"d":[["outcomes",{"l":[{"d":[["value",1.5]]}]}]]}'

def frame(text=GOOD, n_header=None, n_payload=0):
    return struct.pack("<4sIQ", b"MOC1", len(text) if n_header is None else n_header, n_payload) + text.encode()

def say(data):
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, data)
        except OSError:
            pass

"""
# In all of these both answers are wrong, or the worker is lost: not a point may be earned by them.
FORGED = r"""
== forged-on-top | 0 || a reply before the cell has ended
say(frame('{"d":[["raised",null]]}'))

def scale(x, c):
    return x
-- total
def total(x, label):
    return 0.0
== forged-twice | 0 || two more replies before the cell has ended
say(frame('{"d":[["raised",null]]}') + frame())

def scale(x, c):
    return x
-- total
total = scale
== forged-after | 0 || a reply right after the cell, from a thread
threading.Timer(0.05, say, (frame(),)).start()

def scale(x, c):
    time.sleep(0.2)
    return x
-- total
total = scale
== forged-inside | 0 || a reply before its own, in the call
def scale(x, c):
    say(frame())
    return x
-- total
def total(x, label):
    say(frame())
    return 0.0
== forged-always | 0 || a thread that writes replies to every descriptor
def always():
    while True:
        say(frame())
        time.sleep(0.001)

threading.Thread(target=always, daemon=True).start()

def scale(x, c):
    return x
-- total
total = scale
== forged-noise | 0 || threads that write noise to every descriptor
def always():
    while True:
        say(os.urandom(1000))

for _ in range(3):
    threading.Thread(target=always, daemon=True).start()

def scale(x, c):
    return x
-- total
total = scale
== forged-deep | 2 | protocol | JSON of a thousand levels
def scale(x, c):
    say(frame('{"l":[' * 1000 + "]}" * 1000))
    os._exit(0)
== forged-huge | 2 | protocol | a header of 2 MB that holds a million values
def scale(x, c):
    data = frame('{"l":[' + "1," * 900_000 + "1]}")
    while data:
        say(data[:60_000])
        data = data[60_000:]
    os._exit(0)
== forged-length | 2 | protocol | announces 4 GB
def scale(x, c):
    say(frame("", 0xFFFFFFFF, 2**63))
    time.sleep(99)
== forged-payload | 2 | time | announces 60 MB and dribbles a byte now and then
def scale(x, c):
    say(frame(n_payload=60_000_000))
    while True:
        time.sleep(0.05)
        say(b"x")
== forged-half | 2 | time | half a frame, then silence
def scale(x, c):
    say(frame()[:20])
    time.sleep(99)
== forged-raised | 2 | raised time | claims exceptions that no call raised, in the grader's own words
def scale(x, c):
    say(frame('{"d":[["outcomes",{"l":[{"d":[["raised",{"l":["ValueError","Wrong","Lost","SystemExit"]}]]}]}]]}'))
    time.sleep(99)
== forged-mark | 2 | protocol time | sends marks in the place of outcomes
def scale(x, c):
    say(frame('{"d":[["earned",2],["verdict",null],["points",2],["outcomes",null]]}'))
    time.sleep(99)
== forged-exec | 2 | protocol died time | another program takes the worker's place
def scale(x, c):
    os.execv("/bin/sh", ["sh", "-c", "for n in 3 4 5 6; do echo forged >&$n; done; sleep 99", "@EVIL@"])
== stops-reading | 0-2 | time | stands still while the grader sends 10 MB
-- total
threading.Timer(0.3, os.kill, (os.getpid(), 19)).start()
time.sleep(0.2)

def total(x, label):
    time.sleep(0.3)
    return 0.0
== closes-all | 2 | time died | closes every descriptor
def scale(x, c):
    os.closerange(0, 64)
    time.sleep(99)
"""

LIES = r"""
== always-equal | 2 | value shape kind | an array that is equal to everything
import numpy as np

class Equal(np.ndarray):
    __eq__ = __ne__ = __le__ = __ge__ = lambda self, other: np.ones(self.shape, bool)
    __sub__ = __rsub__ = __abs__ = lambda self, *_: np.zeros(self.shape)
    __array_ufunc__ = lambda self, *_, **__: np.zeros(self.shape)

def scale(x, c):
    return np.asarray(x).view(Equal)
== float-subclass | 2 | value | a float that is close to everything
-- total
class Close(float):
    __eq__ = lambda self, other: True
    __sub__ = __rsub__ = lambda self, other: 0.0
    __float__ = __abs__ = lambda self: 0.0
    __hash__ = float.__hash__

def total(x, label):
    return Close(0.5)
== claims-a-class | 2 | kind | an object that says it is an array
class Array:
    __class__ = property(lambda self: __import__("numpy").ndarray)
    __array__ = lambda self, *_, **__: open("/tmp/ran", "w")
    dtype, shape, ndim, nbytes = "float64", (7,), 1, 56

def scale(x, c):
    return Array()
== reduce | 2 | kind | an object that runs when it is unpickled
class Bomb:
    __reduce__ = lambda self: (eval, ("open('@MARKER@', 'w')",))
    __getstate__ = __reduce_ex__ = __reduce__

def scale(x, c):
    return Bomb()
== object-dtype | 2 | kind | an array of objects
import numpy as np

def scale(x, c):
    return np.array([lambda: 1, *x.ravel()], dtype=object)[1:]
== nan | 2 | nonfinite | nothing but NaN
def scale(x, c):
    return x * float("nan")
== infinite | 2 | nonfinite | nothing but infinity, in one number
-- total
def total(x, label):
    return float("inf")
== padded | 2 | kind | strings that numpy would pad to 100 MB
def scale(x, c):
    return ["x" * 1_900_000] + [""] * 12
== del | 2 | value died | ends the process when it is thrown away
class Ends:
    __del__ = lambda self: os._exit(0)

def scale(x, c):
    made = Ends()
    return x
== patches-tests | 2 | value | makes numpy.testing accept everything
import numpy.testing

for name in dir(numpy.testing):
    if name.startswith("assert"):
        setattr(numpy.testing, name, lambda *_, **__: None)

def scale(x, c):
    return x
== patches-numpy | 0 || makes comparisons of numpy true
import numpy as np

np.allclose = np.array_equal = np.isclose = lambda *_, **__: True
np.abs = np.isnan = np.asarray = np.ascontiguousarray = lambda x, *_, **__: np.zeros(np.shape(x))

def scale(x, c):
    return x
-- total
def total(x, label):
    return 0.0
== patches-wire | 0 || replaces json, struct and the wire in its own process
import json, struct, sys

sys.modules["grading.wire"].encode = lambda value: frame()
json.dumps = lambda *_, **__: GOOD
sys.modules["grading.worker"].Bench.answer = lambda self, request: frame()

def scale(x, c):
    return x
-- total
total = scale
== patches-kinds | 2 | raised value | makes its exceptions look like the right value
import builtins

class Right(Exception):
    __mro__ = (ValueError,)

builtins.Right = Right

def scale(x, c):
    raise Right(c * x)
== class-name | 2 | raised | carries the input out in the name of an exception
-- total
def total(x, label):
    raise type(label, (ValueError,), {"__module__": label, "__doc__": label})(label)
== text | 2 | raised | carries the input out in the text and the notes of an exception
-- total
def total(x, label):
    error = ValueError(label, x)
    error.add_note(label)
    raise error
== frames | 2 | value | looks for the expected value in the frames and objects around it
import gc, sys

def scale(x, c):
    frame, found = sys._getframe(), []
    while frame:
        found += [v for v in frame.f_locals.values() if getattr(v, "shape", None) == x.shape and v is not x]
        frame = frame.f_back
    found += [v for v in gc.get_objects() if type(v) is type(x) and v.shape == x.shape and v is not x]
    return found[0] if found else x
== memory-of-cases | 2 | value shape kind | answers one case by what another one sent
kept = []

def scale(x, c):
    kept.append((x, c))
    return kept[0][1] * kept[0][0] + 0.1
== returns-all | 2 | kind shape | returns what it got in the hope that it is compared with itself
def scale(*args):
    return args
"""

ATTACKS = table(FORGED, WIRE) | table(LIES, WIRE + TRY)
