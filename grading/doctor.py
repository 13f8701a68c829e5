"""Does the sandbox hold? Probes that try to get out, run where a student's code runs, judged from outside.

`grade` runs all of them before the first submission (about two seconds) and refuses to go on when one gets out. What a probe
reports is not believed where the outside can see for itself: processes left behind, memory and time are measured here.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading.sandbox import ROOT, Limits, Lost, SandboxError, Worker, find_isolation

SMALL = Limits(memory=600_000_000, total_memory=700_000_000, seconds=30.0)
MARK = "probe-left-behind"

PROBES = """
import os, socket, sys, time
import numpy as np

def readable(paths):
    found = []
    for path in paths:
        try:
            if os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1):
                found.append(path)
        except OSError:
            pass
    return found

def writable(folders):
    found = []
    for folder in folders:
        try:
            open(os.path.join(folder, "probe"), "w").close()
            found.append(folder)
        except OSError:
            pass
    return found

def network(port):
    reached = []
    for address in (("127.0.0.1", port), ("192.0.2.1", 80)):
        try:
            socket.create_connection(address, timeout=0.3).close()
            reached.append(address[0])
        except OSError:
            pass
    return reached

def others():
    lines = []
    for pid in os.listdir("/proc"):
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                lines.append(open("/proc/%s/cmdline" % pid).read())
            except OSError:
                pass
    return [line for line in lines if "bwrap" not in line and line]

def root():
    try:
        os.setuid(0)
    except OSError:
        pass
    return os.getuid() == 0

def reaches_first():
    import ctypes
    found = []
    for name, mode in (("environ", "rb"), ("mem", "r+b")):
        try:
            open("/proc/1/" + name, mode).read(1) if name == "environ" else open("/proc/1/" + name, mode)
            found.append(name)
        except OSError:
            pass
    if ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0:
        found.append("ptrace")
    return found

def hidden_memory():
    # memory that belongs to no process: nobody who adds up processes would see it
    import ctypes, mmap
    libc, found = ctypes.CDLL(None), []
    if libc.shmget(0, 1000000, 0o1600) >= 0:
        found.append("System V")
    for name, make in (("memfd", lambda: os.memfd_create("probe")), ("shared mapping", lambda: mmap.mmap(-1, 1000000))):
        try:
            make()
            found.append(name)
        except OSError:
            pass
    if os.fork() == 0:
        os._exit(int(libc.unshare(0x10020000) == 0))  # a user namespace, and in it a tmpfs of any size
    if os.wait()[1]:
        found.append("namespace")
    return found

def fork_many():
    n = 0
    while n < 500:
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            return n
        n += 1
    return n

def allocate(n_bytes):
    try:
        return int(np.ones(n_bytes, dtype=np.uint8).nbytes)
    except MemoryError:
        return 0

def allocate_together(n, n_bytes):
    for _ in range(n):
        if os.fork() == 0:
            held = np.ones(n_bytes, dtype=np.uint8)
            time.sleep(20)
            os._exit(0)
    time.sleep(20)

def disk():
    written, chunk = 0, bytes(1_000_000)
    for k in range(200):
        try:
            with open("/tmp/%d" % k, "wb") as file:
                written += file.write(chunk)
        except OSError:
            break
    return written

def loop():
    while True:
        pass

def leave_behind(mark):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", mark])
        os._exit(0)
    return True
"""


@dataclass(frozen=True)
class Finding:
    """One probe: what it tried, whether the sandbox held, and what came of it."""

    name: str
    held: bool
    detail: str


def _ask(isolation: str, *calls: tuple, seconds: float = 10.0) -> list:
    """What probes report, one after the other in one worker: (function, arguments...). `Lost` when the worker was ended."""
    with Worker("numpy", PROBES, isolation, SMALL) as worker:
        reports = []
        for function, *args in calls:
            (outcome,) = worker.ask({"op": "call", "name": function, "calls": [tuple(args)], "echo": False}, seconds)[
                "outcomes"
            ]
            reports.append(outcome.get("value", outcome))
    return reports


def _held(isolation: str, *rows: tuple) -> list[Finding]:
    """Findings of probes whose reports are data: rows of (name, whether a report is good, function, arguments...)."""
    try:
        reports = _ask(isolation, *[row[2:] for row in rows])
    except Lost as lost:
        reports = [f"the worker was ended ({lost})"] * len(rows)
    return [Finding(name, good(got), str(got)[:200]) for (name, good, *_), got in zip(rows, reports)]


def _ended(name: str, isolation: str, category: str, within: float, function: str, *args: Any, seconds: float) -> Finding:
    """The finding of a probe that must be ended from outside, in time."""
    start = time.monotonic()
    try:
        got = f"it came back with {_ask(isolation, (function, *args), seconds=seconds)!r}"[:200]
    except Lost as lost:
        got = lost.category
    took = time.monotonic() - start
    return Finding(name, got == category and took < within, f"{got} after {took:.1f} s")


def left_behind() -> list[int]:
    """Processes of the probe `leave_behind` that still live, seen from outside."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0{MARK}\0".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def probes(isolation: str, secret_places: list[Path] = ()) -> list[Finding]:
    """Every probe, in the isolation that is going to be used. `secret_places`: the gradebook, the submissions, the seed."""
    secret = [ROOT / "tests", ROOT / "solutions", ROOT / "README.md", ROOT / "grading/cases.py", *_home(), *secret_places]
    secret += [Path("/etc/passwd"), Path("/etc/hostname")]
    # Where the repository lies below /tmp, its place inside is part of the worker's own /tmp.
    own = [] if ROOT.is_relative_to("/tmp") else [str(ROOT)]
    places = ["/", "/usr", "/etc", "/dev/shm", "/course", "/course/course_lib", sys.prefix, np_folder(), *own]

    def nothing(got: Any) -> bool:
        return got == []

    def few(most: int) -> Callable[[Any], bool]:
        return lambda got: isinstance(got, int) and got <= most

    with socket.create_server(("127.0.0.1", 0)) as server:
        found = _held(
            isolation,
            # A place that does not exist here proves nothing.
            (
                "reads hidden cases, solutions, the home or the gradebook",
                nothing,
                "readable",
                [str(p) for p in secret if p.exists()],
            ),
            ("writes outside /tmp", nothing, "writable", places),
            ("reaches the network", nothing, "network", server.getsockname()[1]),
            ("sees other processes", nothing, "others"),
            ("reaches into the first process of the sandbox", nothing, "reaches_first"),
            ("makes memory that no limit counts", nothing, "hidden_memory"),
            ("is or becomes root", lambda got: got is False, "root"),
            ("takes memory without end, in one process", few(0), "allocate", 2 * SMALL.memory),
            ("fills the disk", few(17_000_000), "disk"),
        )
    found += _held(isolation, ("starts processes without end", few(SMALL.processes), "fork_many"))
    found.append(
        _ended("takes memory without end, in many", isolation, "memory", 9.0, "allocate_together", 4, 300_000_000, seconds=9.0)
    )
    found.append(_ended("never comes back", isolation, "time", 5.0, "loop", seconds=0.5))
    found += _held(isolation, ("leaves a process behind", lambda got: got is True, "leave_behind", MARK))
    time.sleep(0.1)
    still = left_behind()
    found[-1] = Finding(found[-1].name, found[-1].held and not still, f"{len(still)} processes live on")
    for pid in still:
        os.kill(pid, 9)
    return found


def _home() -> list[Path]:
    """What lies in the home, except the folders through which the way to the interpreter leads."""
    on_the_way = {parent for python in (sys.prefix, sys.base_prefix) for parent in (Path(python), *Path(python).parents)}
    return [path for path in sorted(Path.home().iterdir())[:50] if path not in on_the_way] if Path.home().is_dir() else []


def np_folder() -> str:
    """Where numpy is installed: the environment that every worker shares."""
    import numpy

    return os.path.dirname(numpy.__file__)


def require_sound(isolation: str, secret_places: list[Path] = ()) -> None:
    """SandboxError naming every probe that got out. Nothing is asked of `none`: there everything gets out."""
    if isolation == "none":
        return
    if escaped := [finding for finding in probes(isolation, secret_places) if not finding.held]:
        lines = "\n".join(f"  {finding.name}: {finding.detail}" for finding in escaped)
        raise SandboxError(f"the sandbox does not hold, so nothing is graded:\n{lines}")


def report(isolation: str | None, case_folder: Path, out: Callable[[str], None] = print) -> int:
    """What `python -m grading doctor` prints; 0 when grading can begin."""
    out(f"python {sys.version.split()[0]}, {os.cpu_count()} processors, {shutil.disk_usage('.').free / 1e9:.0f} GB free here")
    exercises = sorted(path.stem for path in case_folder.glob("[0-9]*.py"))
    out(f"exercises with hidden cases in {case_folder}: {', '.join(exercises) or 'none'}")
    for module in ("numpy", "torch", "tqdm"):
        code = f"import {module}; print({module}.__version__)"
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
        out(f"{module} {done.stdout.strip() or 'missing: run make (or pip install -e .) first'}")
        if done.returncode:
            return 1
    try:
        isolation = find_isolation(isolation)
    except SandboxError as error:
        out(f"no sandbox: {error}")
        return 1
    if isolation == "none":
        out("isolation none: a submission can read, write and send whatever you can. For notebooks you trust like your own.")
        return 0
    found = probes(isolation)
    for finding in found:
        out(f"{'held   ' if finding.held else 'ESCAPED'}  {finding.name}: {finding.detail}")
    escaped = sum(not finding.held for finding in found)
    out(
        f"{isolation}: {len(found) - escaped} of {len(found)} probes held" + ("" if not escaped else "; nothing will be graded")
    )
    return int(bool(escaped))
