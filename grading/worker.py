"""The worker: the only process that runs a student's code. It lives inside the sandbox and is never believed.

It reads one request, runs it, writes one reply, by `wire.py`, until its input ends:

    {"op": "define", "cell": id, "code": text}                             -> {"raised": None | [kinds]}
    {"op": "call", "name" | "driver": text, "calls": [...], "echo": bool}  -> {"outcomes": [{"value": ..} | {"raised": [..]}
                                                                                             | {"unsendable": ..}, ...]}

It holds no case, no expected value and no mark; what it knows, the student's code may know. It is started with -I, takes its
limits (memory, processor time, processes, file size) before it reads the first request, and, when it was started as root
inside the sandbox, becomes an unprivileged user for good. There it also gives up the system calls of `refused_calls`. It
imports numpy, or numpy and torch, before it says hello, so that the clock of a case measures the answer and not an import.

`Bench` is the part without a process around it: the tests that prove the cases use it too.
"""

import builtins
import linecache
import os
import platform
import struct
import sys
import types

import numpy as np

from grading import wire

# Linux's numbers of the system calls that an answer has no use for. They make memory that no limit counts (memfd, System V,
# namespaces with a tmpfs of their own), reach into other processes, or lead into corners of the kernel with many faults.
REFUSED = "memfd_create memfd_secret shmget semget msgget unshare setns ptrace process_vm_readv process_vm_writev bpf "
REFUSED += "perf_event_open userfaultfd io_uring_setup add_key request_key keyctl"
MACHINES = {  # architecture, mmap, clone, clone3, then REFUSED
    "x86_64": (0xC000003E, 9, 56, 435, (319, 447, 29, 64, 68, 272, 308, 101, 310, 311, 321, 298, 323, 425, 248, 249, 250)),
    "aarch64": (
        0xC00000B7,
        222,
        220,
        435,
        (279, 447, 194, 190, 186, 97, 268, 117, 270, 271, 280, 241, 282, 425, 217, 218, 219),
    ),
}
NEW_NAMESPACES = 0x7E020000  # the flags CLONE_NEW...
NEW_USER = 0x10000000


class Bench:
    """A namespace like a notebook's, in which answers are defined and called."""

    def __init__(self, prelude: str = "", needs: str = "numpy"):
        self.module = types.ModuleType("__main__")
        self.module.display = lambda *objects, **options: None  # Jupyter has it without an import
        self.as_tensor = wire.Tensor.of
        if needs == "torch":
            import torch

            self.as_tensor = lambda array: torch.from_numpy(array.copy())
        self._run(prelude, "prelude")

    def _run(self, code: str, name: str) -> None:
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        exec(compile(code, name, "exec"), self.module.__dict__)

    def answer(self, frame: bytes) -> bytes:
        """The reply to a request, both as frames. Whatever the student's code raises becomes data."""
        request = wire.decode(frame, self.as_tensor)
        if request["op"] == "define":
            return wire.encode({"raised": self.define(request["code"], request["cell"])})
        outcomes = []
        for args in request["calls"]:
            outcome = self.call(request, args)
            try:
                wire.encode(outcome)
            except Exception as error:  # also what a student's own class raises while it is looked at
                outcome = {"unsendable": type(error).__name__[:80]}
            outcomes.append(outcome)
        try:
            return wire.encode({"outcomes": outcomes})
        except wire.WireError:
            return wire.encode({"outcomes": [{"unsendable": "WireError"}] * len(outcomes)})

    def define(self, code: str, cell: str) -> list[str] | None:
        """Run an answer cell; the kinds of what it raised, or None."""
        try:
            self._run(code, f"answer {cell}")
        except BaseException as error:
            return kinds_of(error)
        return None

    def call(self, request: dict, args: tuple) -> dict:
        """One call of a function of the student's, or of a driver beside them."""
        try:
            if "driver" in request:
                helper: dict = {}
                exec(compile(request["driver"], "driver", "exec"), helper)
                functions = [value for value in helper.values() if isinstance(value, types.FunctionType)]
                value = functions[-1](self.module, *args)
            else:
                value = getattr(self.module, request["name"])(*args)
        except BaseException as error:
            return {"raised": kinds_of(error)}
        return {"value": (value, list(args)) if request["echo"] else value}


def kinds_of(error: BaseException) -> list[str]:
    """The built-in exceptions that an error is an instance of, the most special first; never a class of the student's."""
    return [
        kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind and kind is not object
    ]


def limit(memory: int, seconds: int, processes: int, file_size: int, uid: int) -> None:
    """Take the limits for good: hard and soft, and then the user id, so that nothing can take them back."""
    import resource

    rows = (("AS", memory), ("CPU", seconds), ("FSIZE", file_size), ("CORE", 0), ("NOFILE", 64), ("MSGQUEUE", 0), ("RTPRIO", 0))
    for what, value in rows:
        if value >= 0 and hasattr(resource, f"RLIMIT_{what}"):
            resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (value, value))
    if uid and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if processes >= 0:  # after the user changed: the limit counts the processes of a user, and means nothing to root
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def own_namespace() -> None:
    """Leave the user namespace of the sandbox. An ordinary user's worker has the same user id as process 1 of the sandbox,
    bubblewrap, and could read its environment and write into its memory; from a namespace further down it cannot."""
    import ctypes

    libc = ctypes.CDLL(None)
    if libc.unshare(NEW_USER) == 0:  # where that is forbidden, Yama usually guards process 1; `doctor` sees whether it does
        libc.capset(struct.pack("<Ii", 0x20080522, 0), bytes(24))  # it made us its root: no capability of that is kept


def refused_calls() -> None:
    """Have the kernel refuse the calls of REFUSED, new namespaces, and shared mappings: pages of one that is unmapped live on
    and count for nobody. On a machine that is not in MACHINES nothing is refused, and `doctor` says what gets out."""
    if platform.machine() not in MACHINES:
        return
    import ctypes

    architecture, mmap, clone, clone3, refused = MACHINES[platform.machine()]
    allow, no, unknown = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x00050026)  # EPERM, ENOSYS
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), no]  # load; jump if equal; return. Another ABI: refused
    program += [(0x20, 0, 0, 0), (0x35, 0, 1, 0x40000000), no]  # x32
    for number in refused:
        program += [(0x15, 0, 1, number), no]
    program += [(0x15, 0, 1, clone3), unknown]  # its flags lie in memory; libc takes clone in its place
    for number, argument, bits in ((clone, 0, NEW_NAMESPACES), (mmap, 3, 0x01)):
        program += [(0x15, 0, 4, number), (0x20, 0, 0, 16 + 8 * argument), (0x45, 0, 1, bits), no, allow]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in [*program, allow]))
    filter_ = struct.pack("HxxxxxxP", len(program) + 1, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter; inherited by all that the answers start
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter_, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


def serve(read, write, bench: Bench) -> None:
    """Answer requests until the input ends."""
    while head := read(wire.HEAD.size):
        n_header, n_payload = wire.lengths(head)
        write(bench.answer(head + read(n_header + n_payload)))


def main(arguments: list[str]) -> None:
    """Arguments NEEDS MEMORY SECONDS PROCESSES FILE_SIZE UID; then the prelude comes as the first frame."""
    needs, *numbers = arguments
    in_sandbox = int(numbers[-1]) != 0
    if in_sandbox and os.geteuid() != 0:
        own_namespace()  # before there is a second thread
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    target = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):  # what a student prints must not become a frame
        os.dup2(nowhere, fd)
    if needs == "torch":
        import torch

        torch.set_num_threads(1)
    limit(*map(int, numbers))
    if in_sandbox:
        refused_calls()

    def read(n: int) -> bytes:
        parts = []
        while n and (part := source.read(n)):
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def write(frame: bytes) -> None:
        view = memoryview(frame)
        while view:
            view = view[target.write(view) :]

    head = read(wire.HEAD.size)
    bench = Bench(wire.decode(head + read(sum(wire.lengths(head)))), needs)
    os.dup2(nowhere, 2)  # so far a fault was worth reading, from here on nobody reads
    sys.modules["__main__"] = bench.module
    write(wire.encode({"hello": [sys.version.split()[0], np.__version__]}))
    serve(read, write, bench)
    os._exit(0)  # no atexit, no __del__: there is nothing left to say
