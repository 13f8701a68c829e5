"""The grader is killed at twenty moments and started again: nothing is lost, nothing is graded twice, nobody lives on.

What is killed is a whole run (grade, gradebook, feedback, exports) of the small exam of tests/grading/attack_exam.py, by
SIGKILL, which leaves it no time to tidy up: at random moments from its start to beyond its end.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grading.gradebook import dump
from grading.sandbox import SandboxError, find_isolation
from tests.grading import attack_exam
from tests.grading.attack_exam import SCALE, TOTAL, WRONG_SCALE, cells, hand_in, living, notebook

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
STUDENTS = {
    "ada": cells(),
    "bob": cells(WRONG_SCALE),
    "cleo": cells("import os\nos._exit(0)"),
    "dan": cells(SCALE, "def total(x, label):\n    raise SystemExit"),
    "eve": cells("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n" + SCALE),
    "fay": cells(SCALE, TOTAL, why="Because it is so."),
}

try:
    find_isolation()
    missing = ""
except SandboxError as error:
    missing = str(error)
pytestmark = pytest.mark.skipif(bool(missing), reason=f"bubblewrap: {missing}")


def started(folder: Path, mark: int) -> subprocess.Popen:
    """A grader at work in a process of its own."""
    line = [sys.executable, "-m", "tests.grading.attack_exam", str(folder), str(mark)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> dict:
    """What a run that is left alone prints."""
    out, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint[-2000:]
    return json.loads(out)


def still_living(mark: int, patience: float = 3.0) -> list[int]:
    """Workers that live on when the grader is dead; the kernel may take a moment."""
    end = time.monotonic() + patience
    while (found := living(str(15_000_000 + mark))) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.fixture
def folder(tmp_path):
    """Six submissions: right, wrong, dying, and one that leaves a process behind."""
    attack_exam.write_cases(tmp_path)
    for student, made in STUDENTS.items():
        hand_in(tmp_path / "submissions", student, notebook(made))
    return tmp_path


def test_killed_and_started_again_it_ends_where_an_undisturbed_run_does(folder):
    begin = time.monotonic()
    earned = finish(started(folder, os.getpid()))
    takes = time.monotonic() - begin
    assert {student: points for student, (points, *_) in earned.items()} == {
        "ada": 4.0, "bob": 2.0, "cleo": 2.0, "dan": 2.0, "eve": 4.0, "fay": 4.0
    }  # fmt: skip
    book = folder / "out/gradebook.sqlite"
    undisturbed = dump(book)
    shutil.rmtree(folder / "out")
    rng, kills, in_work, ended = random.Random(3), 0, 0, 0
    while kills < KILLS or ended == 0:
        mark = 100_000 + 10_000 * kills + os.getpid() % 10_000
        process = started(folder, mark)
        if kills < KILLS:
            time.sleep(rng.uniform(0.1, 1.0) * takes)
            was_done = process.poll() is not None
            in_work += bool(living(str(15_000_000 + mark)))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += not was_done
        else:
            finish(process)
            was_done = True
        assert still_living(mark) == [], "a worker outlives its grader"
        if was_done:
            ended += 1
            assert dump(book) == undisturbed
            shutil.rmtree(folder / "out")
    assert in_work >= KILLS // 4, "hardly a kill came while a worker was alive: the moments are badly chosen"


def test_a_killed_run_keeps_what_it_had_and_grades_only_the_rest(folder):
    process, book = started(folder, 1), folder / "out/gradebook.sqlite"
    end = time.monotonic() + 60
    kept: dict = {}
    while not kept and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
        if book.is_file() and book.stat().st_size:
            try:
                kept = dump(book)["attempts"]
            except Exception:  # it is being made at this moment
                continue
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = dump(book)["attempts"]
    assert kept
    finish(started(folder, 1))
    after = dump(book)["attempts"]
    assert all(len(attempts) == 1 for attempts in after.values()), "something was graded twice"
    assert {name: after[name] for name in kept} == kept
    assert len(after) == len(STUDENTS)
