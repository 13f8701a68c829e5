"""What the docstrings of the sandbox, the worker, the judge and the doctor promise, one promise a test."""

import contextlib
import inspect
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from grading import cases, doctor, judge, sandbox, wire, worker
from grading.sandbox import Limits, Lost, SandboxError, Worker, find_isolation
from tests.grading import attack_exam
from tests.grading.attack_exam import living

try:
    find_isolation()
    missing = ""
except SandboxError as error:
    missing = str(error)
needs_bwrap = pytest.mark.skipif(bool(missing), reason=f"bubblewrap: {missing}")
each_isolation = pytest.mark.parametrize("isolation", [pytest.param("bwrap", marks=needs_bwrap), "none"])
SMALL = Limits(memory=500_000_000, total_memory=500_000_000, seconds=20.0, processes=16)
PRELUDE = """
import itertools, os, resource, sys, threading, time

def echo(x): return x
def change(x): x[0] = 9.0; return None
def fail(): raise KeyError("secret")
def lies(): return object()
def sleep(): time.sleep(30)
def loop():
    while True: pass
def flood():
    for k in itertools.count(): os.symlink("x" * 100, f"/tmp/{k}")
def end(): os._exit(3)
def end_soon(): threading.Timer(0.1, os._exit, (0,)).start()
def speak(): os.write(4, b"x" * 100); os.write(4, b"y" * 100)
def speak_later(): threading.Timer(0.1, os.write, (4, b"x")).start()
def eat():
    for _ in range(4):
        if os.fork() == 0:
            held = b"x" * 200_000_000
            time.sleep(30)
    time.sleep(30)
def limits(): return [list(resource.getrlimit(getattr(resource, f"RLIMIT_{n}"))) for n in "AS CPU FSIZE NPROC CORE".split()]
def who(): return [os.getuid(), os.geteuid(), os.getgid(), list(os.getgroups())]
def environment(): return dict(os.environ)
def source(): import inspect; return inspect.getsource(echo)
"""


def call(one: Worker, name: str, *args, seconds: float = 10.0, echo: bool = False):
    """The outcome of one call."""
    (outcome,) = one.ask({"op": "call", "name": name, "calls": [args], "echo": echo}, seconds)["outcomes"]
    return outcome


@pytest.fixture
def start():
    """Workers with PRELUDE, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda isolation, limits=SMALL: stack.enter_context(Worker("numpy", PRELUDE, isolation, limits))


# The sandbox


def test_an_isolation_is_found_or_refused_with_the_cure(monkeypatch):
    assert find_isolation("none") == "none"
    with pytest.raises(SandboxError, match="no isolation named 'docker'; there are bwrap, none"):
        find_isolation("docker")
    monkeypatch.setattr(sandbox, "command", lambda isolation: ["/bin/sh", "-c", "echo no namespaces >&2; exit 1"])
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: "/usr/bin/bwrap")
    with pytest.raises(
        SandboxError, match=r"cannot make a sandbox here \(no namespaces\).*unprivileged_userns_clone.*--isolation"
    ):
        find_isolation()
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(SandboxError, match=r"was not found, and without a sandbox nothing is graded.*apt install bubblewrap"):
        find_isolation("bwrap")


def test_a_folder_that_shows_too_much_is_never_bound(monkeypatch, tmp_path):
    sandbox.visible()
    monkeypatch.setattr(sandbox.sys, "prefix", str(sandbox.ROOT))
    with pytest.raises(SandboxError, match=r"which no worker may see. Make the environment in a folder of its own"):
        sandbox.visible()


def test_without_isolation_there_is_no_command_in_front():
    assert sandbox.command("none") == []


@each_isolation
def test_a_worker_defines_calls_and_drives(start, isolation):
    one = start(isolation)
    x = np.arange(6.0).reshape(2, 3)
    assert one.ask({"op": "define", "cell": "a", "code": "def twice(x): return 2 * x"}, 10.0) == {"raised": None}
    assert one.ask({"op": "define", "cell": "b", "code": "1 / 0"}, 10.0)["raised"][0] == "ZeroDivisionError"
    assert one.ask({"op": "define", "cell": "c", "code": "def"}, 10.0)["raised"][0] == "SyntaxError"
    np.testing.assert_array_equal(call(one, "twice", x)["value"], 2 * x)
    assert call(one, "change", x, echo=True)["value"][1][0][0, 0] == 9.0 and x[0, 0] == 0.0
    assert call(one, "fail")["raised"] == ["KeyError", "LookupError", "Exception", "BaseException"]
    assert call(one, "nobody")["raised"][0] == "AttributeError"
    assert set(call(one, "lies")) == {"unsendable"}
    driver = "def driver(answers, x):\n    return answers.twice(x) + 1"
    assert one.ask({"op": "call", "driver": driver, "calls": [(1,), (2,)], "echo": False}, 10.0) == {
        "outcomes": [{"value": 3}, {"value": 5}]
    }
    assert call(one, "source")["value"] == "def echo(x): return x\n"


@each_isolation
@pytest.mark.parametrize(
    "name, category", [("sleep", "time"), ("loop", "time"), ("end", "died"), ("speak", "protocol"), ("eat", "memory")]
)
def test_a_lost_worker_says_why_and_is_dead(start, isolation, name, category):
    one, begin = start(isolation), time.monotonic()
    call(one, "echo", 1)
    with pytest.raises(Lost) as lost:
        call(one, name, seconds=1.0 if category == "time" else 10.0)
    assert lost.value.category == category and one.process.poll() is not None
    assert time.monotonic() - begin < 30
    with pytest.raises((Lost, ValueError)):
        call(one, "echo", 1)


@each_isolation
@pytest.mark.parametrize("name, category", [("end_soon", "died"), ("speak_later", "protocol")])
def test_what_happens_between_two_requests_is_seen_at_the_next(start, isolation, name, category):
    one = start(isolation)
    call(one, name)
    time.sleep(0.5)
    with pytest.raises(Lost, match=category):
        call(one, "echo", 1)


@needs_bwrap
def test_limits_hold_for_good_and_nobody_is_root(start):
    one = start("bwrap")
    rows = call(one, "limits")["value"]
    assert rows == [[SMALL.memory] * 2, [80, 80], [SMALL.file_size] * 2, [SMALL.processes] * 2, [0, 0]]
    uid, euid, gid, groups = call(one, "who")["value"]
    assert 0 not in (uid, euid, gid, *groups)
    other = start("bwrap")
    if os.geteuid() == 0:
        assert call(other, "who")["value"][0] != uid, "the limit of processes would count both"


@needs_bwrap
def test_the_environment_of_the_teacher_stays_outside(start, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_THE_TEACHER", "secret")
    known = call(start("bwrap"), "environment")["value"]
    assert "TOKEN_OF_THE_TEACHER" not in known and known["HOME"] == "/tmp" and known["OMP_NUM_THREADS"] == "1"


@needs_bwrap
def test_memory_counts_all_processes_of_a_worker(start):
    assert sandbox.memory_of(os.getpid()) > 1_000_000
    assert sandbox.memory_of(2**22 + 1) == 0
    one = start("bwrap")
    call(one, "echo", 1)
    held = sandbox.memory_of(one.process.pid)
    assert 10_000_000 < held < 400_000_000


@needs_bwrap
@pytest.mark.parametrize("most, category", [(500, "memory"), (10**9, "time")])
def test_files_without_end_end_the_worker_by_their_number(start, monkeypatch, most, category):
    monkeypatch.setattr(sandbox, "MAX_NAMES", most)
    with pytest.raises(Lost, match=category):
        call(start("bwrap"), "flood", seconds=2.0)


@each_isolation
def test_closing_twice_is_allowed_and_a_dead_worker_tells_its_complaint(monkeypatch, isolation):
    monkeypatch.setattr(sandbox, "BOOT", "1 / 0")
    one = Worker("numpy", "", isolation, SMALL)
    with pytest.raises(Lost, match="died"):
        one.ask({"op": "define", "cell": "a", "code": ""}, 10.0)
    assert "ZeroDivisionError" in one.complaint()
    one.close()
    one.process.stderr.close()
    assert one.complaint() == ""


@needs_bwrap
def test_a_worker_ends_with_the_grader_that_made_it():
    mark = str(15_000_000 + os.getpid())
    code = "import os, sys, time; from grading.sandbox import Limits, Worker\n"
    code += (
        f"w = Worker('numpy', '', 'bwrap', Limits(file_size={mark})); w.ask({{'op': 'define', 'cell': 'a', 'code': ''}}, 30)\n"
    )
    code += "print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=sandbox.ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "ready\n"
        assert living(mark)
        process.kill()
    end = time.monotonic() + 5
    while living(mark) and time.monotonic() < end:
        time.sleep(0.02)
    assert living(mark) == []


# The worker


def test_kinds_are_builtin_and_never_a_name_of_the_students():
    class KeyErrors(KeyError):
        pass

    fake = type("ValueError", (Exception,), {})
    assert worker.kinds_of(KeyErrors("x")) == ["KeyError", "LookupError", "Exception", "BaseException"]
    assert worker.kinds_of(fake("x")) == ["Exception", "BaseException"]
    assert worker.kinds_of(SystemExit(0)) == ["SystemExit", "BaseException"]


def test_a_bench_turns_everything_into_data():
    bench = worker.Bench("import math")

    def ask(request):
        return wire.decode(bench.answer(wire.encode(request)))

    assert ask({"op": "define", "cell": "a", "code": "def f(x): return math.sqrt(x)"}) == {"raised": None}
    request = {"op": "call", "name": "f", "calls": [(4.0,), (-1.0,), ("a",)], "echo": False}
    good, bad, worse = ask(request)["outcomes"]
    assert good == {"value": 2.0} and bad["raised"][0] == "ValueError" and worse["raised"][0] == "TypeError"
    assert inspect.getsource(bench.module.f).startswith("def f(x)")
    ask({"op": "define", "cell": "b", "code": "def f(x): return 'x' * 1_500_000"})
    assert ask(request)["outcomes"] == [{"unsendable": "WireError"}] * 3, "too much together"


def test_calls_are_refused_by_number_only_where_the_numbers_are_known(monkeypatch):
    names = worker.REFUSED.split()
    for *_, numbers in worker.MACHINES.values():
        assert len(numbers) == len(names) == len(set(numbers))
    monkeypatch.setattr(worker.platform, "machine", lambda: "vax")
    worker.refused_calls()  # changes nothing here


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of processes and user ids are Linux's")
def test_limits_are_taken_in_a_process_of_their_own():
    code = "import resource, sys; from grading.worker import limit\nlimit(400_000_000, 5, -1, 1000, 0)\n"
    code += "print(resource.getrlimit(resource.RLIMIT_AS), resource.getrlimit(resource.RLIMIT_NPROC))"
    done = subprocess.run([sys.executable, "-c", code], cwd=sandbox.ROOT, capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == f"(400000000, 400000000) {resource.getrlimit(resource.RLIMIT_NPROC)}", done.stderr


# The judge


@pytest.mark.parametrize(
    "reply, outcome",
    [
        ({"outcomes": [{"value": 1}]}, [1]),
        ({"outcomes": [{"raised": ["ValueError"]}]}, [cases.Raised(("ValueError",))]),
        ({"outcomes": [{"unsendable": "x"}]}, "kind"),
        ({"outcomes": [{"raised": "ValueError"}]}, "protocol"),
        ({"outcomes": [{"raised": [1]}]}, "protocol"),
        ({"outcomes": [{"value": 1, "raised": []}]}, "protocol"),
        ({"outcomes": [{}]}, "protocol"),
        ({"outcomes": [{"earned": 2}]}, "protocol"),
        ({"outcomes": [{1: 2}]}, "protocol"),
        ({"outcomes": [1]}, "protocol"),
        ({"outcomes": []}, "protocol"),
        ({"outcomes": [{"value": 1}] * 2}, "protocol"),
        ({"outcomes": {"value": 1}}, "protocol"),
        ({"outcomes": ({"value": 1},)}, "protocol"),
        ({}, "protocol"),
        ([], "protocol"),
        (None, "protocol"),
        (wire.Tensor.of([1.0]), "protocol"),
        ({"outcomes": np.ones(1)}, "protocol"),
    ],
)
def test_a_reply_is_outcomes_or_a_category(reply, outcome):
    assert judge.outcomes_of(reply, 1) == outcome


def test_a_case_is_played_with_fresh_numbers_and_judged_outside(tmp_path):
    file = cases.load(attack_exam.write_cases(tmp_path))
    sent = []

    def right(request):
        sent.append(request)
        return {"outcomes": [{"value": request["calls"][0][1] * request["calls"][0][0]}]}

    case = file.cases[0]
    for student in ("ada", "bob"):
        assert judge.play(case, right, cases.rng_for(b"s" * 32, "stem", student, case)) is None
    assert not np.array_equal(sent[0]["calls"][0][0], sent[1]["calls"][0][0])
    assert set(sent[0]) == {"op", "name", "calls", "echo"}, "something else than the call left the grader"
    assert judge.play(case, lambda request: {"outcomes": [{"value": None}]}, np.random.default_rng(0)) == "kind"
    assert judge.play(case, lambda request: {"outcomes": [{"raised": []}]}, np.random.default_rng(0)) == "raised"


# The doctor


@needs_bwrap
def test_every_probe_is_held_by_bubblewrap(tmp_path):
    (tmp_path / "gradebook").write_text("x")
    escaped = [finding for finding in doctor.probes("bwrap", [tmp_path, tmp_path / "gradebook"]) if not finding.held]
    assert escaped == []
    assert doctor.left_behind() == []


def test_probes_see_what_gets_out():
    """Without a sandbox the same probes do get out: they are able to fail."""
    secret = str(Path(__file__))
    reports = doctor._ask("none", ("readable", [secret]), ("others",), ("writable", ["/tmp"]), ("hidden_memory",))
    assert reports[0] == [secret] and reports[1] and reports[2] == ["/tmp"]
    assert "memfd" in reports[3] and "shared mapping" in reports[3]
    Path("/tmp/probe").unlink()


def test_nothing_is_graded_when_a_probe_gets_out(monkeypatch):
    doctor.require_sound("none")
    found = [doctor.Finding("sees the sun", False, "bright"), doctor.Finding("flies", True, "")]
    monkeypatch.setattr(doctor, "probes", lambda *args: found)
    with pytest.raises(SandboxError, match=r"does not hold, so nothing is graded:\n  sees the sun: bright$"):
        doctor.require_sound("bwrap")


def test_the_report_fails_without_a_sandbox_and_says_what_none_means(monkeypatch, tmp_path):
    said = []
    versions = subprocess.CompletedProcess([], 0, "1.0", "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **more: versions)  # importing torch takes seconds
    assert doctor.report("none", tmp_path, said.append) == 0
    assert "can read, write and send whatever you can" in said[-1]
    monkeypatch.setattr(doctor, "find_isolation", lambda wanted: (_ for _ in ()).throw(SandboxError("no bwrap")))
    assert doctor.report(None, tmp_path, said.append) == 1
    assert said[-1] == "no sandbox: no bwrap"
