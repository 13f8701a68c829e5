"""A hundred hostile submissions in one batch: none earns a point it should not, learns what is hidden, or leaves a trace.

All are graded together, with honest ones among them, as a teacher would: find, grade, gradebook, feedback, exports. Then each
is looked at by itself. The attacks stand in tests/grading/attacks.py, attack_lies.py and attack_files.py.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from grading import cases, feedback, grade
from grading.folder import Found, SubmissionError, find_submissions, read
from grading.sandbox import SandboxError, find_isolation
from tests.grading import attack_exam, attack_files, attack_lies, attacks
from tests.grading.attack_exam import CANARY, SECRET, STEM, TASKS, cells, hand_in, living, notebook

ROOT = Path(__file__).resolve().parents[1]
ATTACKS = attacks.ATTACKS | attack_lies.ATTACKS | attack_files.ATTACKS
HONEST = ("honest", "honest too", "诚实")
# For an ordinary user the sandbox is built otherwise: these are the attacks on what differs.
AS_A_USER = (
    "reads writes network hidden-memory first-process kernel limits others kills daemon sleepers fork-bomb memory-in-many "
)
AS_A_USER += "loop"

try:
    find_isolation()
    missing = ""
except SandboxError as error:
    missing = str(error)
pytestmark = pytest.mark.skipif(bool(missing), reason=f"bubblewrap: {missing}")


def tree(*folders: Path) -> dict[str, str]:
    """What lies in folders: kinds, times of change, contents. Caches of the interpreter do not count."""
    found = {}
    for folder in folders:
        for path in [folder, *sorted(folder.rglob("*"))]:
            if "__pycache__" in path.parts:
                continue
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and status.st_size < 10**7 else ""
            is_file = path.is_file() and not path.is_symlink()
            found[os.fsdecode(bytes(path))] = f"{status.st_mode:o} {status.st_size if is_file else ''} {content}"
    return found


@dataclass
class Batch:
    """What was there before, and what came of it."""

    folder: Path
    rows: dict[str, dict] = field(default_factory=dict)
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    alive: list[int] = field(default_factory=list)
    visitors: list = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def feedback(self, student: str) -> str:
        """The feedback file of a student."""
        return (self.folder / "out/feedback" / student / f"{STEM}.md").read_text("utf-8")


def places(folder: Path, port: int) -> dict[str, str]:
    """What the attacks look for on this machine."""
    secret = [folder / "cases", folder / "cases" / f"{STEM}.py", folder / "submissions", folder / "submissions/honest"]
    secret += [
        folder / "submissions/honest" / f"{STEM}.ipynb",
        folder / "seed",
        folder / "out",
        folder / "out/gradebook.sqlite",
    ]
    secret += [folder / "home", folder / "home/diary", ROOT / "tests", ROOT / "solutions", ROOT / "README.md"]
    secret += [
        ROOT / "grading/cases.py",
        ROOT / "grading/grade.py",
        ROOT / ".git",
        Path("/etc/passwd"),
        Path("/etc/hosts"),
        folder,
    ]
    open_to = ["/", "/etc", "/usr", "/usr/lib", "/course", "/course/course_lib", "/course/grading", "/dev", "/dev/shm", "/proc"]
    open_to += [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), str(folder), str(folder / "out")]
    open_to += [] if ROOT.is_relative_to("/tmp") else [str(ROOT)]  # there its place is part of the worker's own /tmp
    return {
        "SECRETS": repr([str(path) for path in secret]),
        "PLACES": repr(open_to),
        "PORT": str(port),
        "LISTENER": f"grader-{os.getpid()}",
        "CANARY": CANARY,
        "EVIL": f"{attacks.EVIL}-{os.getpid()}",
        "MARKER": str(folder / "ran"),
    }


def prepare(folder: Path, names: list[str], port: int) -> None:
    """A folder with submissions, cases, a seed, a home; everybody may read it, so only the sandbox stands between."""
    for name in ("submissions", "home", "out"):
        (folder / name).mkdir(parents=True)
    attack_exam.write_cases(folder)
    (folder / "seed").write_bytes(SECRET)
    (folder / "home/diary").write_text(f"{CANARY}_diary")
    for student in HONEST:
        scale = f"# {CANARY}_classmate\n{attack_exam.SCALE}"
        hand_in(folder / "submissions", student, notebook(cells(scale)))
    for name in names:
        ATTACKS[name].hand_in(folder / "submissions", name, places(folder, port))


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """All attacks, graded once."""
    abstract = socket.socket(socket.AF_UNIX)
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as server, abstract:
        found = Batch(tmp_path_factory.mktemp("attacked"))
        prepare(found.folder, list(ATTACKS), server.getsockname()[1])
        temporary = found.folder / "temporary"
        temporary.mkdir()
        patch.setenv("HOME", str(found.folder / "home"))
        patch.setattr(tempfile, "tempdir", str(temporary))
        patch.setattr(grade, "DEFINE_S", 3.0)
        server.setblocking(False)
        abstract.bind(f"\0grader-{os.getpid()}")
        abstract.listen()
        abstract.setblocking(False)
        watched = (
            found.folder / "submissions",
            found.folder / "home",
            found.folder / "cases",
            ROOT / "tests",
            ROOT / "grading",
        )
        found.before = tree(*watched)
        start = time.monotonic()
        exam = attack_exam.exam(found.folder / "cases" / f"{STEM}.py", mark=os.getpid() % 1_000_000)
        rows = attack_exam.run(found.folder, exam, jobs=5)
        found.seconds = time.monotonic() - start
        time.sleep(0.3)
        found.alive = living(str(exam.limits.file_size), f"{attacks.EVIL}-{os.getpid()}")
        found.after = tree(*watched)
        found.left = os.listdir(temporary)
        for one in (server, abstract):
            try:
                found.visitors.append(one.accept())
            except BlockingIOError:
                continue
    found.rows = {row["student"]: row for row in rows}
    return found


def row_of(batch: Batch, name: str) -> dict | None:
    """The result of an attack; of a name that cannot be, the one that stands for it."""
    if name in batch.rows:
        return batch.rows[name]
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return next((row for student, row in batch.rows.items() if student.endswith(f"~{digest}")), None)


@pytest.mark.parametrize("name", ATTACKS, ids=lambda name: repr(name)[1:-1][:40])
def test_no_attack_earns_more_than_its_honest_part(batch, name):
    attack, row = ATTACKS[name], row_of(batch, name)
    if attack.problem == "nobody":
        assert row is None
        return
    assert row["problem"] == attack.problem
    verdicts = {f"{case['task']}/{case['name']}": case["verdict"] for case in row["cases"]}
    least, most = attack.points
    earned = sum(case["earned"] for case in row["cases"])
    assert least <= earned <= most, f"earned {earned} by: {attack.tries}; {verdicts}, {row['answers']}"
    assert all(verdict in cases.CATEGORIES for verdict in verdicts.values() if verdict)
    if attack.verdicts:
        assert set(verdicts.values()) - {None} <= set(attack.verdicts), verdicts
    if attack.answers:
        assert {task: row["answers"][task] for task in attack.answers} == attack.answers


@pytest.mark.parametrize("student", HONEST)
def test_honest_work_beside_attacks_gets_full_marks(batch, student):
    assert [case["verdict"] for case in batch.rows[student]["cases"]] == [None] * 4


def test_every_submission_has_one_result_and_one_feedback(batch):
    expected = len(HONEST) + len(ATTACKS) - sum(attack.problem == "nobody" for attack in ATTACKS.values())
    assert len(batch.rows) == expected
    assert all(row["attempt"] == 1 for row in batch.rows.values())
    assert len(list((batch.folder / "out/feedback").glob(f"*/{STEM}.md"))) == expected


def test_nothing_hidden_is_in_anything_the_grader_wrote(batch):
    files = [path for path in (batch.folder / "out").rglob("*") if path.is_file()]
    assert len(files) > len(HONEST) + 5
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), f"{path.name} tells what is hidden"


def test_nothing_was_changed_planted_or_left(batch):
    changed = {path for path in {*batch.before, *batch.after} if batch.before.get(path) != batch.after.get(path)}
    assert not changed
    assert not (batch.folder / "ran").exists()
    assert batch.left == [], "a temporary file was left behind"


def test_no_process_lives_on(batch):
    assert batch.alive == []


def test_nobody_came_over_the_network(batch):
    assert batch.visitors == []


def test_the_batch_ends_in_bounded_time(batch):
    """Whatever an attack does, it costs at most the 40 s of the limit, and the start of a few workers."""
    assert max(row["seconds"] for row in batch.rows.values()) < 40 + 20


def test_feedback_and_exports_show_hostile_names_as_text(batch):
    for student in batch.rows:
        text = batch.feedback(student)
        assert not re.search(r"<[a-zA-Z/!]|(?<!\\)\]\(|\x1b", text), text[:300]
        assert "instructions" not in text, "a student's text is in the feedback"
    for form in ("csv", "canvas", "moodle"):
        for line in csv.reader(io.StringIO((batch.folder / f"out/export.{form}").read_text("utf-8"))):
            assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in line), line
            assert not any(ord(c) < 32 for cell in line for c in cell)
    known = json.loads((batch.folder / "out/export.json").read_text("utf-8"))
    assert len(known["students"]) == len(batch.rows)


@pytest.mark.parametrize(
    "name", ["a:b", "a|b", 'a"b', "a?*", "<a>", "a b", "~a", "a;b&c", "$HOME", "%s{0}", "'", "诚 实", "e\u0301", "#"]
)
def test_every_name_that_is_accepted_can_be_written_under(name, tmp_path):
    """Otherwise one folder's name would stop the feedback of all who come after it."""
    hand_in(tmp_path / "submissions", name, notebook(cells()))
    (one,) = find_submissions(tmp_path / "submissions", STEM)
    made = attack_exam.exam(attack_exam.write_cases(tmp_path))
    feedback.write(tmp_path / "feedback", grade.failed(one.student, made, one.problem or "missing"), TASKS, made.file, {})
    assert one.problem in (None, "bad-name")


def test_names_through_the_programming_interface(tmp_path):
    """The command line never makes such a name; whoever calls the functions is stopped too."""
    made = attack_exam.exam(attack_exam.write_cases(tmp_path))
    path = hand_in(tmp_path, "x", notebook(cells()))
    (row,) = grade.grade_all([Found("../x", path, None)], made, 1)
    with pytest.raises(feedback.FeedbackError):
        feedback.write(tmp_path / "feedback", row, TASKS, made.file, {})
    with pytest.raises(SubmissionError, match="unreadable"):
        read(Path("a\0b"))
    (row,) = grade.grade_all([Found("x", Path("a\0b"), None)], made, 1)
    assert row["problem"] == "unreadable"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cases", "x"]


def test_a_slow_reader_of_results_does_not_cost_points(tmp_path):
    """Results are drawn from a generator: who takes a second for each must not make the answers late."""
    made = attack_exam.exam(attack_exam.write_cases(tmp_path))
    found = [Found(f"s{k}", hand_in(tmp_path, f"s{k}", notebook(cells())), None) for k in range(3)]
    earned = []
    for row in grade.grade_all(found, made, 2):
        time.sleep(1.0)
        earned.append(sum(case["earned"] for case in row["cases"]))
    assert earned == [4.0] * 3


def as_user_command(folder: Path) -> list[str]:
    """The start of a command line that runs as an unprivileged user who can reach the interpreter, even below root's home.

    An outer sandbox of the same file system; where a folder on the way to the interpreter is closed to others, an empty one
    takes its place, with the interpreter mounted into it.
    """
    line, covered = ["bwrap", "--dev-bind", "/", "/"], set()
    for place in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), ROOT, folder)):
        closed = [parent for parent in reversed(place.parents) if not parent.stat().st_mode & 0o001]
        if closed and closed[0] not in covered:
            line += ["--perms", "0755", "--tmpfs", str(closed[0])]
            covered.add(closed[0])
        if closed:
            line += ["--perms", "0755"] + ["--dir", str(place)] + ["--bind", str(place), str(place)]
    return [*line, "--chdir", str(ROOT), "--", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already, so the attacks above did")
@pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="setpriv (util-linux), which makes root an ordinary user, is missing"
)
def test_the_sandbox_holds_for_an_ordinary_user_too():
    names = AS_A_USER.split()
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(name) / "class"  # a name directly in /tmp could be made anew in the /tmp of the sandbox
        prepare(folder, names, server.getsockname()[1])
        for path in [folder.parent, *folder.parent.rglob("*")]:
            os.chown(path, 65534, 65534)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
        environment["SECRET_OF_THE_TEACHER"] = CANARY
        line = as_user_command(folder)
        first = subprocess.run([*line, sys.executable, "-c", "import numpy"], env=environment, capture_output=True, text=True)
        if first.returncode:
            pytest.skip(f"no ordinary user can be had here: {first.stderr.strip()[-300:]}")
        code = "from grading.sandbox import find_isolation; find_isolation()"
        first = subprocess.run([*line, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        if first.returncode:
            pytest.skip(f"an ordinary user cannot make a sandbox here: {first.stderr.strip()[-300:]}")
        mark = 1_000_000 + os.getpid() % 1_000_000
        run = [*line, sys.executable, "-B", "-m", "tests.grading.attack_exam", str(folder), str(mark)]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        time.sleep(0.3)
        assert living(str(15_000_000 + mark), f"{attacks.EVIL}-{os.getpid()}") == []
        for path in (folder / "out").rglob("*"):
            assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    earned = json.loads(done.stdout)
    assert all(earned[student][:2] == [4.0, None] for student in HONEST), earned
    for attack in names:
        least, most = ATTACKS[attack].points
        assert least <= earned[attack][0] <= most, f"{attack}: {earned[attack]} for: {ATTACKS[attack].tries}"
