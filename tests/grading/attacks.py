"""Attacks by code: what each tries, and what it may get for it. tests/test_grading_attacks.py runs them all.

An attack replaces the answer to `scale` of a small exam (tests/grading/attack_exam.py), or to `total`, or both; its points are
what the *honest* part of it earns, not a point more. A block of the tables below is

    == name | points | categories of which every lost case must have one | what it tries
    code of scale                     (the right answer if nothing stands there)
    -- total
    code of total                     (the right answer if the line -- is missing)

@NAME@ stands for a place of this machine that the test fills in. Attacks by files: tests/grading/attack_files.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.grading.attack_exam import SCALE, TOTAL, cells, hand_in, notebook

EVIL = "attack-left-behind"  # stands in the arguments of every program that an attack starts


@dataclass(frozen=True)
class Attack:
    """One hostile submission.

    points: (least, most) that it earns.  verdicts: categories of its lost cases; () for any.  answers: words for its answer
    cells.  problem: the word for a submission that cannot be read; "nobody" where it is no submission at all.
    raw: the notebook, else it is made of scale and total.  place: puts it into the folder of submissions in its own way.
    """

    tries: str
    points: tuple[float, float]
    scale: str = SCALE
    total: str = TOTAL
    verdicts: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    raw: bytes | None = None
    place: Callable[[Path, str], object] | None = None

    def hand_in(self, folder: Path, student: str, places: dict[str, str]) -> None:
        """Put it where a student would."""
        if self.place is not None:
            self.place(folder, student)
            return
        scale, total = self.scale, self.total
        for name, text in places.items():
            scale, total = scale.replace(f"@{name}@", text), total.replace(f"@{name}@", text)
        hand_in(folder, student, self.raw if self.raw is not None else notebook(cells(scale, total)))


def table(text: str, head: str = "", tail: str = "") -> dict[str, Attack]:
    """The attacks of a text; `head` and `tail` are put around each answer to scale."""
    found = {}
    for block in text.split("\n== ")[1:]:
        first, _, code = block.partition("\n")
        name, points, verdicts, tries = (part.strip() for part in first.split("|", 3))
        least, _, most = points.partition("-")
        scale, _, total = code.partition("-- total\n")
        assert name not in found, name
        found[name] = Attack(
            tries,
            (float(least), float(most or least)),
            head + scale + tail if scale.strip() else SCALE,
            head + total if total.strip() else TOTAL,
            tuple(verdicts.split()),
        )
    return found


TRY = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, threading, time
libc, out = ctypes.CDLL(None, use_errno=True), []

def attempt(name, act):
    try:
        if act() not in (None, False, -1):
            out.append(name)
    except (OSError, ValueError, MemoryError):
        pass

"""
# The right answer only for who was refused everything: full points mean that nothing got out.
IF_REFUSED = "\ndef scale(x, c):\n    return out or c * x\n"
REFUSED = r"""
== reads | 4 || reads hidden cases, solutions, classmates, the seed, the gradebook, the home
for path in @SECRETS@:
    attempt(path, lambda: os.listdir(path) if os.path.isdir(path) else open(path, "rb").read())
== writes | 4 || writes everywhere but /tmp, the gradebook too
for path in @PLACES@:
    attempt(path, lambda: open(path + "/evil", "w"))
for path in @SECRETS@:
    if os.path.exists(path):
        attempt(path, lambda: open(path, "ab"))
== network | 4 || reaches this machine's own listeners, another machine, a name server
attempt("own", lambda: socket.create_connection(("127.0.0.1", @PORT@), 0.3))
attempt("far", lambda: socket.create_connection(("192.0.2.1", 80), 0.3))
attempt("name", lambda: socket.getaddrinfo("example.org", 80))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\0@LISTENER@") or 1)
== disk | 4 || fills the disk
n = 0
try:
    for k in range(100):
        n += open(f"/tmp/{k}", "wb").write(bytes(1_000_000))
except OSError:
    pass
out += ["disk"] * (n > 17_000_000)
attempt("large", lambda: open("/tmp/0", "wb").truncate(10**9) or 1)
for name in os.listdir("/tmp"):
    if os.path.isfile("/tmp/" + name):
        os.unlink("/tmp/" + name)
== hidden-memory | 4 || makes memory that belongs to no process
attempt("memfd", lambda: os.memfd_create("x"))
attempt("shmget", lambda: libc.shmget(0, 10**8, 0o1600))
attempt("msgget", lambda: libc.msgget(0, 0o1600))
attempt("semget", lambda: libc.semget(0, 9, 0o1600))
attempt("shared", lambda: mmap.mmap(-1, 10**8))
attempt("zero", lambda: mmap.mmap(os.open("/dev/zero", os.O_RDWR), 10**8))
attempt("shm", lambda: open("/dev/shm/x", "w"))
== first-process | 4 || reads and writes the first process of the sandbox
for name in ("environ", "maps", "root/etc/passwd", "mem", "fd/0", "fd/1", "fd/2"):
    for mode in ("rb", "r+b"):
        attempt(name, lambda: open("/proc/1/" + name, mode).read(1) if mode == "rb" else open("/proc/1/" + name, mode))
attempt("root", lambda: os.listdir("/proc/1/root"))
attempt("ptrace", lambda: libc.ptrace(16, 1, 0, 0))
== kernel | 4 || becomes root, mounts, makes namespaces, changes its root
attempt("setuid", lambda: os.setuid(0) or 1)
attempt("setgid", lambda: os.setgid(0) or 1)
attempt("groups", lambda: os.setgroups([0]) or 1)
attempt("chroot", lambda: os.chroot("/tmp") or 1)
attempt("namespaces", lambda: libc.unshare(0x10020000))
attempt("net", lambda: libc.unshare(0x40000000))
attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, b""))
attempt("umount", lambda: libc.umount2(b"/proc", 2))
attempt("setns", lambda: libc.setns(3, 0))
attempt("host", lambda: libc.sethostname(b"x", 1))
attempt("device", lambda: os.mknod("/tmp/d", 0o60666, 2048) or 1)
attempt("sysctl", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("sysrq", lambda: open("/proc/sysrq-trigger", "w"))
== limits | 4 || takes its limits back
for what in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC", "CORE", "RTPRIO", "MSGQUEUE"):
    number = getattr(resource, "RLIMIT_" + what)
    attempt(what, lambda: resource.setrlimit(number, (resource.RLIM_INFINITY,) * 2) or 1)
    out += ["no limit of " + what] * (resource.getrlimit(number)[1] == resource.RLIM_INFINITY)
attempt("nice", lambda: os.nice(-5) or 1)
attempt("fifo", lambda: os.sched_setscheduler(0, 1, os.sched_param(9)) or 1)
== others | 4 || looks for other processes, and for files that somebody left open
for pid in os.listdir("/proc"):
    out += [pid] * (pid.isdigit() and int(pid) not in (1, os.getpid()))
for fd in range(3, 64):
    if os.path.exists(f"/proc/self/fd/{fd}") and os.readlink(f"/proc/self/fd/{fd}") != "/dev/null":
        out += [fd] * (not os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"))
== kills | 4 || kills its parent, the first process, everybody
attempt("parent", lambda: os.kill(os.getppid(), 9))
attempt("first", lambda: os.kill(1, 15))
attempt("all", lambda: os.kill(-1, 9))
== looks-around | 4 || finds tests, expected values or the seed in its own process
out += [n for n in sys.modules if n.startswith(("tests", "grading.")) and n not in ("grading.wire", "grading.worker")]
out += [key for key, value in os.environ.items() if "@CANARY@" in value or "SEED" in key]
== daemon | 4 || leaves a daemon behind
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(99)", "@EVIL@"])
    os._exit(0)
os.wait()
== sleepers | 2-4 || starts 50 processes, and as many threads
for _ in range(50):
    try:
        if os.fork() == 0:
            time.sleep(99)
            os._exit(0)
        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
    except (OSError, RuntimeError):
        pass
== atexit | 4 || does not end when it should
import atexit
atexit.register(time.sleep, 99)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
    signal.signal(number, signal.SIG_IGN)
"""

HONEST = r"""
== warns | 4 || a warning on the way to the right answer
import warnings

def scale(x, c):
    warnings.warn("careful")
    return c * x
== prints | 4 || 10 MB on stdout and on stderr
import sys

def scale(x, c):
    print("x" * 10_000_000)
    print("y" * 10_000_000, file=sys.stderr)
    return c * x
== almost-late | 4 || sleeps just below the deadline, each time
import time

def scale(x, c):
    time.sleep(0.8)
    return c * x
-- total
def total(x, label):
    time.sleep(0.8)
    return float(x.sum())
== own-code | 3 | value | changes its own code after the first call
def scale(x, c):
    global scale
    scale = lambda x, c: x
    return c * x
"""

WRONG = r"""
== loop-on-top | 2 | time | never comes back from the cell
while True:
    pass
== loop | 2 | time | never comes back from the call
def scale(x, c):
    while True:
        pass
== loop-in-the-other | 2 | time | never comes back from one of two functions, and swallows every exception
-- total
def total(x, label):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
== exit-on-top | 2 | died | ends the process in the cell
os._exit(0)
== exit | 2 | died | ends the process in the call
def scale(x, c):
    os._exit(0)
== exit-later | 0-3 | died value | a thread ends the process between two calls
threading.Timer(0.3, os._exit, (0,)).start()

def scale(x, c):
    time.sleep(0.2)
    return x
== crash | 2 | died | reads address 0
def scale(x, c):
    return ctypes.string_at(0)
== sys-exit | 2 | raised | sys.exit
def scale(x, c):
    sys.exit(0)
== interrupt | 2 | undefined | KeyboardInterrupt in the cell
raise KeyboardInterrupt
== recursion | 2 | died raised time | recursion without end
sys.setrecursionlimit(10**9)

def scale(x, c):
    return scale(x, c)
== fork-bomb | 0-2 | time died value raised memory | processes without end
def scale(x, c):
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
== memory | 2 | raised | 2 GB in one process
def scale(x, c):
    return x + len(bytearray(2 * 10**9))
== memory-in-many | 2 | memory time | 2 GB in eight processes
def scale(x, c):
    for _ in range(8):
        if os.fork() == 0:
            held = b"x" * 250_000_000
            time.sleep(99)
            os._exit(0)
    time.sleep(99)
== memory-and-dribble | 2 | memory time | 2 GB in eight processes, and a byte now and then so that nobody looks
def scale(x, c):
    fds = [fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}")]
    for fd in fds:
        try:
            os.write(fd, b"MOC1" + bytes([255, 0, 0, 0]) + bytes(8))
        except OSError:
            pass
    for _ in range(8):
        if os.fork() == 0:
            held = b"x" * 250_000_000
            time.sleep(99)
            os._exit(0)
    while True:
        time.sleep(0.01)
        for fd in fds:
            try:
                os.write(fd, b"x" if time.time() % 1 else b"")
            except OSError:
                pass
== signals | 2 | time | ignores every signal and stays
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, lambda *_: None)

def scale(x, c):
    while True:
        signal.pause()
"""

ATTACKS = table(REFUSED, TRY, IF_REFUSED) | table(HONEST) | table(WRONG, TRY)
