"""One worker in its sandbox, held on a short leash: what it may see, how much it may use, how long it may take.

Inside bubblewrap a worker finds the interpreter, the environment, `course_lib`, the two files `grading/wire.py` and
`grading/worker.py`, a /tmp of 16 MB, and nothing else: no network, no home, no repository, no other process. `Limits` bound
memory, processor time, processes and file size; the grader bounds the clock on every read and write, adds up the memory of all
processes of the worker (a limit of the kernel holds for one process only), and kills everything with one signal.

Traps met, each with its line below:

- bubblewrap makes the parents of a mount 0700, so an unprivileged user could not reach what is mounted: `_parents`.
- / and /dev/shm of the sandbox are writable and without a limit until they are remounted: `--remount-ro`.
- Limits on processes do not hold for root: started as root, the worker becomes another user, an own one for each (`uid`).
- The kernel ties "die with parent" to the *thread* that started a process: a worker is used by the thread that made it.
- A folder below the environment would be visible through it: where that would show a secret, nothing is graded.

`isolation="none"` runs the worker as a plain process with the same limits and the same wire: for machines without bubblewrap,
for one's own notebooks, and never silently.
"""

import contextlib
import itertools
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading import wire

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).resolve().parents[1]
ISOLATIONS = ("bwrap", "none")
TMP_BYTES = 16_000_000 // 4096 * 4096  # what a worker may write
MAX_NAMES = 20_000  # files in it
START_S = 60.0  # a cold start reads torch from the disk
BOOT = "import sys; sys.path[:0] = [sys.argv[1]]; from grading.worker import main; main(sys.argv[2:])"
PIPE = 1 << 20  # bytes that wait in a pipe, where the kernel allows so many
_slots = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What one submission may use. memory and file_size in bytes; seconds of all its cases together."""

    memory: int = 2_000_000_000
    total_memory: int = 3_000_000_000  # all processes of the worker together, looked at 5 times a second
    seconds: float = 60.0
    processes: int = 32
    file_size: int = 16_000_000


class Lost(Exception):
    """The worker gave no reply. `category` says why: "time", "memory", "died" or "protocol"."""

    def __init__(self, category: str):
        super().__init__(category)
        self.category = category


class SandboxError(RuntimeError):
    """No worker can be started at all; the text has the cure."""


def find_isolation(wanted: str | None = None) -> str:
    """The isolation to use. SandboxError unless bubblewrap works, or "none" was asked for by name."""
    if wanted is not None and wanted not in ISOLATIONS:
        raise SandboxError(f"no isolation named {wanted!r}; there are {', '.join(ISOLATIONS)}")
    if wanted == "none":
        return wanted
    cure = (
        "On Debian or Ubuntu: apt install bubblewrap. On macOS and Windows use a Linux machine, WSL 2 or a container; or, for "
    )
    cure += "notebooks that you trust like your own, --isolation none."
    if not sys.platform.startswith("linux") or shutil.which("bwrap") is None:
        raise SandboxError(f"bubblewrap (bwrap) was not found, and without a sandbox nothing is graded. {cure}")
    try:
        done = subprocess.run([*command("bwrap"), "/bin/true"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        raise SandboxError("bubblewrap did not start within 30 s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise SandboxError(
            f"bubblewrap is installed but cannot make a sandbox here ({said[0][:200]}). Often the kernel forbids user "
            "namespaces to ordinary users (sysctl kernel.unprivileged_userns_clone, "
            f"kernel.apparmor_restrict_unprivileged_userns). {cure}"
        )
    return "bwrap"


def _parents(path: Path, made: set[Path]) -> list[str]:
    """Options that make the folders above a mount, open to every user; bubblewrap itself would make them for root alone."""
    options = []
    for folder in reversed(path.parents[:-1]):
        if folder not in made:
            made.add(folder)
            options += ["--perms", "0755", "--dir", str(folder)]
    return options


def visible() -> list[tuple[Path, Path]]:
    """(outside, inside) of all that a worker can see. SandboxError where one of them would show more than it should."""
    system = [
        Path(p) for p in ("/lib", "/lib64", "/lib32", "/libx32", "/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/bin", "/bin")
    ]
    python = [Path(sys.base_prefix), Path(sys.prefix)]
    if Path("/usr") in python:
        system.append(Path("/usr"))
    pairs = [(path, path) for path in [*system, Path("/etc/ld.so.cache"), *python] if path.exists()]
    pairs += [(ROOT / "course_lib", Path("/course/course_lib"))]
    pairs += [(ROOT / "grading" / name, Path("/course/grading") / name) for name in ("__init__.py", "wire.py", "worker.py")]
    for outside, _ in pairs:
        for secret in (ROOT / "tests", ROOT / "solutions", Path.home()):
            if secret.is_relative_to(outside) or secret.resolve().is_relative_to(outside.resolve()):
                raise SandboxError(
                    f"the interpreter's folder {outside} contains {secret}, which no worker may see. "
                    "Make the environment in a folder of its own (make does: .venv)."
                )
    return pairs


def command(isolation: str) -> list[str]:
    """The command line up to the program that runs in the sandbox; empty without isolation."""
    if isolation == "none":
        return []
    line = ["bwrap", "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    line += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    # Real root needs no user namespace; it keeps the right to become somebody else, and the worker gives that up too.
    line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if os.geteuid() == 0 else ["--unshare-user"]
    line += ["--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        line += ["--setenv", name, "1"]
    line += ["--setenv", "MPLBACKEND", "Agg", "--setenv", "MPLCONFIGDIR", "/tmp"]
    # First, so that an environment below /tmp is mounted over it and not hidden by it.
    line += ["--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp"]
    made: set[Path] = {Path("/tmp")}
    for outside, inside in visible():
        line += _parents(inside, made)
        is_link = outside.is_symlink() and outside.parent == Path("/")  # /lib -> usr/lib
        line += ["--symlink", os.readlink(outside), str(inside)] if is_link else ["--ro-bind", str(outside), str(inside)]
    return [*line, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"]


class Worker:
    """A process that runs a student's code, and the only way to talk to it."""

    def __init__(self, needs: str, prelude: str, isolation: str, limits: Limits = Limits()):
        self.limits, self.hello, self.next_look = limits, False, 0.0
        uid = 1_000_000_000 + os.getpid() % 2**22 * 256 + next(_slots) % 256
        numbers = (
            limits.memory,
            int(limits.seconds) + 60,
            limits.processes,
            limits.file_size,
            uid if isolation == "bwrap" else 0,
        )
        if isolation == "none":  # there the limit would count everything that the user runs
            numbers = (*numbers[:2], -1, *numbers[3:])
        root = "/course" if isolation == "bwrap" else str(ROOT)
        line = [*command(isolation), sys.executable, "-I", "-B", "-c", BOOT, root, needs, *map(str, numbers)]
        pipe = subprocess.PIPE
        # bubblewrap clears the environment for the worker, not for itself, and a worker can see it in /proc
        environment = {"PATH": os.environ.get("PATH", os.defpath)} if isolation == "bwrap" else None
        self.process = subprocess.Popen(
            line, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, bufsize=0, env=environment
        )
        for stream in (self.process.stdin, self.process.stdout):
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(OSError, AttributeError):  # a large array crosses in 10 steps instead of 160
                fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE)
        self.first = wire.encode(prelude)

    def ask(self, request: dict, seconds: float) -> Any:
        """The reply to a request. Lost when there is none in time, or when what comes is no frame of plain data."""
        if not self.hello:
            self._exchange(self.first, START_S)
            self.hello = True
        return self._exchange(wire.encode(request), seconds)

    def _exchange(self, frame: bytes, seconds: float) -> Any:
        """Send a frame, receive one. A worker that fails at it is dead afterwards."""
        deadline = time.monotonic() + seconds
        try:
            if self.hello and self._readable(0.0):  # it speaks without being asked, or its end is what can be read
                raise Lost("protocol" if os.read(self.process.stdout.fileno(), 1) else "died")
            self._send(memoryview(frame), deadline)
            head = self._receive(wire.HEAD.size, deadline)
            return wire.decode(head + self._receive(sum(wire.lengths(head)), deadline))
        except wire.WireError:
            self.close()
            raise Lost("protocol") from None
        except Lost:
            self.close()
            raise

    def _readable(self, wait: float) -> bool:
        return _ready(self.process.stdout, selectors.EVENT_READ, wait)

    def _send(self, view: memoryview, deadline: float) -> None:
        while view:
            if self._wait(self.process.stdin, selectors.EVENT_WRITE, deadline):
                try:
                    view = view[os.write(self.process.stdin.fileno(), view[:PIPE]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise Lost("died") from None

    def _receive(self, n: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < n:
            if self._wait(self.process.stdout, selectors.EVENT_READ, deadline):
                try:
                    part = os.read(self.process.stdout.fileno(), min(n - len(parts), 1 << 20))
                except BlockingIOError:
                    continue
                if not part:
                    raise Lost("died")
                parts += part
        return bytes(parts)

    def _wait(self, stream, event: int, deadline: float) -> bool:
        """True when the stream is ready. Looks at clock and memory at least 5 times a second."""
        now = time.monotonic()
        if now >= deadline:
            raise Lost("time")
        if now >= self.next_look:  # by the clock: who keeps the line busy with single bytes is looked at too
            self.next_look = now + 0.2
            family = family_of(self.process.pid)
            if sum(family.values()) > self.limits.total_memory or names_of(family) > MAX_NAMES:
                raise Lost("memory")
        return _ready(stream, event, min(deadline - now, 0.2))

    def complaint(self) -> str:
        """What a dead worker wrote to its error stream: for the teacher, when no worker starts at all."""
        self.close()
        return self.process.stderr.read(4000).decode(errors="replace").strip() if not self.process.stderr.closed else ""

    def close(self) -> None:
        """End the worker and everything it started. Nothing of it is left afterwards."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # bubblewrap dies, and with it the whole process namespace
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()
        self.process.stderr.close()


def _ready(stream, event: int, wait: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, event)
        return bool(selector.select(wait))


def family_of(pid: int) -> dict[int, int]:
    """{process: bytes it holds} of a process and all its descendants, the youngest last; empty where there is no /proc."""
    page, parents, resident = os.sysconf("SC_PAGE_SIZE"), {}, {}
    for entry in Path("/proc").glob("[0-9]*") if Path("/proc/self/stat").exists() else ():
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)], resident[int(entry.name)] = int(fields[1]), int(fields[21]) * page
    found, front, children = {}, [pid], {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    while front:
        one = front.pop()
        found[one] = resident.get(one, 0)
        front += children.get(one, [])
    return found


def names_of(family: Iterable[int]) -> int:
    """Files in the /tmp of a worker, seen through its processes: each takes memory of the kernel that no other limit counts."""
    for pid in family:
        with contextlib.suppress(OSError):
            there = os.statvfs(Path("/proc", str(pid), "root", "tmp"))
            if there.f_blocks * there.f_frsize <= TMP_BYTES:  # bubblewrap itself still sees the /tmp outside
                return there.f_files - there.f_ffree
    return 0


def memory_of(pid: int) -> int:
    """Bytes of memory that a process and all its descendants hold; 0 where there is no /proc."""
    return sum(family_of(pid).values())
