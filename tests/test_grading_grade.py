"""What the docstrings of grading/grade.py promise: order, patience, faults, an end at any moment."""

import os
import threading
import time
from pathlib import Path

import pytest

from grading import grade, sandbox
from grading.sandbox import Limits, SandboxError, find_isolation
from tests.grading import attack_exam
from tests.grading.attack_exam import SCALE, WRONG_SCALE, cells, hand_in, living, notebook

try:
    find_isolation()
    missing = ""
except SandboxError as error:
    missing = str(error)


@pytest.fixture
def exam(tmp_path):
    """The small exam, in the best isolation there is here."""
    return attack_exam.exam(attack_exam.write_cases(tmp_path), isolation="none" if missing else "bwrap")


def found_in(folder: Path, **made) -> list[grade.Found]:
    """Submissions in the order in which they are named."""
    return [grade.Found(name, hand_in(folder, name, notebook(one)), None) for name, one in made.items()]


def points(row: dict) -> float:
    """What a result has earned."""
    return sum(case["earned"] for case in row["cases"])


def test_cases_that_do_not_fit_the_tasks_are_refused(tmp_path):
    path, limits = attack_exam.write_cases(tmp_path), Limits()
    scale, total, why = attack_exam.TASKS
    short = grade.Task("total", 3.0, "code", total.title)
    with pytest.raises(ValueError, match="cases of total are worth 2 points, the notebook promises 3"):
        grade.exam_for("s", (scale, short, why), path, b"x", "none", limits)
    with pytest.raises(ValueError, match="cases of tasks that the notebook does not have: total"):
        grade.exam_for("s", (scale, why), path, b"x", "none", limits)


def test_who_loops_delays_nobody(tmp_path, exam, monkeypatch):
    monkeypatch.setattr(grade, "DEFINE_S", 1.0)
    found = found_in(tmp_path, loops=cells("while True: pass"), ada=cells(), bob=cells(WRONG_SCALE))
    rows = list(grade.grade_all(found, exam, 1))
    assert [row["student"] for row in rows] == ["ada", "bob", "loops"]
    assert [points(row) for row in rows] == [4.0, 2.0, 2.0], rows
    assert rows[2]["answers"]["scale"] == "time"


def test_what_is_done_is_skipped_and_what_cannot_be_read_is_reported(tmp_path, exam):
    found = [*found_in(tmp_path, ada=cells(), bob=cells()), grade.Found("cleo", None, "link")]
    rows = list(grade.grade_all(found, exam, 2, done=lambda student, digest: student == "bob"))
    assert {row["student"]: row["problem"] for row in rows} == {"ada": None, "cleo": "link"}


def test_the_same_notebook_gets_the_same_result_again(tmp_path, exam):
    found = found_in(tmp_path, ada=cells(WRONG_SCALE))
    first, second = ([row | {"seconds": 0} for row in grade.grade_all(found, exam, 1)] for _ in range(2))
    assert first == second


def test_a_fault_of_the_grader_costs_one_submission_only(tmp_path, exam, monkeypatch, caplog):
    real = grade.judge
    monkeypatch.setattr(grade, "judge", lambda raw, student, *rest: real(raw, student, *rest) if student != "ada" else 1 / 0)
    rows = {row["student"]: row for row in grade.grade_all(found_in(tmp_path, ada=cells(), bob=cells()), exam, 1)}
    assert rows["ada"]["problem"] == "crashed" and points(rows["bob"]) == 4.0
    assert "the grader itself failed" in caplog.text


def test_no_worker_at_all_is_one_sentence(tmp_path, exam, monkeypatch):
    monkeypatch.setattr(sandbox, "BOOT", "raise SystemExit('no numpy here')")
    with pytest.raises(SandboxError, match=r"a worker did not start .*no numpy here"):
        list(grade.grade_all(found_in(tmp_path, ada=cells()), exam, 1))


def test_closing_a_batch_ends_every_worker_at_once(tmp_path):
    mark = 2_000_000 + os.getpid()
    made = attack_exam.exam(attack_exam.write_cases(tmp_path), mark, seconds=60.0, isolation="none" if missing else "bwrap")
    loops = {f"z{k}": cells("import time\ntime.sleep(9)\n" + SCALE) for k in range(3)}
    results = grade.grade_all(found_in(tmp_path, ada=cells(), **loops), made, 2)
    next(results)
    time.sleep(1.0)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 5.0
    time.sleep(0.2)
    assert living(str(15_000_000 + mark)) == []
    assert threading.active_count() < 10
