"""Grade a submission, and a folder of them: the trusted side, which sees plain data and decides.

One submission: its answer cells are defined in a worker, one after the other; then each hidden case sends its arguments, takes
what comes back, and compares. A case that hangs, dies or talks nonsense is lost and a fresh worker goes on with the next one;
after two such losses the rest of a task is lost too, and `Limits.seconds` bounds everything together. So a submission costs at
most about SECONDS on the clock, whatever it does.

A folder: as many submissions at a time as there are processors. The first time that one runs into its deadline it steps back
to the end of the queue, so that it delays nobody; what it has earned by then is judged again there, with patience.
"""

import concurrent.futures
import hashlib
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grading import cases
from grading.judge import play
from grading.notebook import Found, Submission, SubmissionError, Task, parse, read
from grading.sandbox import Limits, Lost, SandboxError, Worker

GRADER = "1"  # raise it when the same notebook may get other marks
DEFINE_S = 10.0  # an answer cell that is only run, not called
QUEUE_S = 15.0  # who takes longer while others wait is judged at the end of the queue
LOSSES_PER_TASK = 2
UNDEFINED = ("missing", "doubled", "untouched", "too-long")


@dataclass(frozen=True)
class Exam:
    """What all submissions of a batch share."""

    stem: str
    tasks: tuple[Task, ...]
    file: cases.CaseFile
    secret: bytes
    isolation: str
    limits: Limits = Limits()  # noqa: RUF009  frozen


class Slow(Exception):
    """A submission ran into a deadline while others wait."""


class Desk:
    """A worker in use and the next one already starting: importing torch takes as long as judging. One desk a thread."""

    def __init__(self, exam: Exam):
        self.exam = exam
        self.used: Worker | None = None
        self.next: Worker | None = None
        self.closed = False

    def _start(self) -> Worker:
        return Worker(self.exam.file.needs, self.exam.file.prelude, self.exam.isolation, self.exam.limits)

    def fresh(self) -> Worker:
        """A worker that nobody has used. SandboxError when even an empty request gets no reply."""
        if self.closed:  # otherwise a submission in work would go on with a fresh worker after the batch was stopped
            raise SandboxError("the batch was stopped")
        if self.used is not None:
            self.used.close()
            self.used.process.stderr.close()
        self.used, self.next = self.next or self._start(), None
        try:
            self.used.ask({"op": "define", "cell": "nothing", "code": ""}, 60.0)
        except Lost as lost:
            raise SandboxError(f"a worker did not start ({lost}): {self.used.complaint() or 'it said nothing'}") from None
        self.next = self._start()
        return self.used

    def clear(self) -> None:
        """End both workers; none is started afterwards."""
        self.closed = True
        for worker in (self.used, self.next):
            if worker is not None:
                worker.close()
                worker.process.stderr.close()
        self.used = self.next = None


class Session:
    """One submission in front of a desk: its answers, defined again in every fresh worker."""

    def __init__(self, desk: Desk, submission: Submission, exam: Exam, may_wait: bool):
        self.desk, self.submission, self.exam, self.may_wait = desk, submission, exam, may_wait
        self.status = dict(submission.status)
        self.start = time.monotonic()
        self.end = self.start + exam.limits.seconds
        self.worker: Worker | None = None
        if any(state == "ok" for state in self.status.values()):  # an empty exercise needs no process
            self._open()

    def _open(self) -> None:
        """A fresh worker with every answer defined that can be; a cell that kills it is left out the next time."""
        while time.monotonic() < self.end:
            self.worker = self.desk.fresh()
            for cell, code in self.submission.answers.items():
                if self.status[cell] not in ("ok", "raised"):
                    continue
                if time.monotonic() >= self.end:  # the cell is not to blame
                    return
                try:
                    reply = self.worker.ask({"op": "define", "cell": cell, "code": code}, self._time_for(DEFINE_S))
                    raised = reply.get("raised", "") if isinstance(reply, dict) else ""
                    self.status[cell] = "ok" if raised is None else "raised"
                except Lost as lost:
                    self._patience(lost)
                    self.status[cell] = lost.category
                    break
            else:
                return

    def _time_for(self, seconds: float) -> float:
        return max(0.0, min(seconds, self.end - time.monotonic()))

    def _patience(self, lost: Lost) -> None:
        if lost.category == "time" and not self.may_wait:
            raise Slow

    def play(self, case: cases.Case, rng: np.random.Generator) -> str | None:
        """The verdict of one case. Lost when the worker was lost at it; a fresh one then waits for the next."""

        if not self.may_wait and time.monotonic() - self.start > QUEUE_S:  # slow without ever missing a deadline
            raise Slow

        def ask(request: dict):
            return self.worker.ask(request, self._time_for(case.seconds))

        try:
            return play(case, ask, rng)
        except Lost as lost:
            self._patience(lost)
            self._open()
            raise


def judge(raw: bytes, student: str, exam: Exam, desk: Desk, may_wait: bool = True) -> dict:
    """The result of one notebook, as a plain dict (grading/gradebook.py has its form). Slow if it must wait and may not."""
    start = time.monotonic()
    try:
        submission = parse(raw, exam.tasks)
    except SubmissionError as error:
        return failed(student, exam, error.problem, hashlib.sha256(raw).hexdigest())
    session, rows, losses = Session(desk, submission, exam, may_wait), [], dict.fromkeys(submission.answers, 0)
    for case in exam.file.cases:
        state = session.status[case.task]
        if state in UNDEFINED:
            verdict = "undefined"
        elif state not in ("ok", "raised"):
            verdict = state
        elif time.monotonic() >= session.end:
            verdict = "time"
        elif losses[case.task] >= LOSSES_PER_TASK:
            verdict = next(row["verdict"] for row in reversed(rows) if row["task"] == case.task and row["verdict"])
        else:
            try:
                verdict = session.play(case, cases.rng_for(exam.secret, exam.stem, student, case))
            except Lost as lost:
                verdict, losses[case.task] = lost.category, losses[case.task] + 1
            if verdict == "raised" and state == "raised":
                verdict = "undefined"  # the cell stopped on its way to the function
        earned = case.points if verdict is None else 0
        rows.append({"task": case.task, "name": case.name, "points": case.points, "earned": earned, "verdict": verdict})
    prose = [
        {"task": task.id, "points": task.points, "text": submission.prose.get(task.id, "")}
        for task in exam.tasks
        if task.kind == "prose"
    ]
    result = _result(student, exam, hashlib.sha256(raw).hexdigest(), time.monotonic() - start)
    return result | {"language": submission.language, "answers": session.status, "cases": rows, "prose": prose}


def failed(student: str, exam: Exam, problem: str, digest: str = "") -> dict:
    """The result of a submission that could not be read: no points, and the reason."""
    return _result(student, exam, digest, 0.0) | {"problem": problem}


def _result(student: str, exam: Exam, digest: str, seconds: float) -> dict:
    return {
        "student": student,
        "stem": exam.stem,
        "notebook_sha256": digest,
        "language": "en",
        "problem": None,
        "answers": {},
        "cases": [],
        "prose": [],
        "isolation": exam.isolation,
        "seconds": round(seconds, 4),
        "cases_sha256": exam.file.digest,
        "grader": GRADER,
        "seed": hashlib.sha256(exam.secret).hexdigest()[:8],
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def digest_of(found: Found) -> tuple[bytes, str, str | None]:
    """(bytes, sha256, problem) of a submission that was found; what cannot be read has a problem and no bytes."""
    try:
        if found.problem:
            raise SubmissionError(found.problem)
        raw = read(found.path)
        return raw, hashlib.sha256(raw).hexdigest(), None
    except SubmissionError as error:
        return b"", "", error.problem


def grade_all(
    found: Iterable[Found], exam: Exam, jobs: int, done: Callable[[str, str], bool] = lambda student, digest: False
) -> Iterator[dict]:
    """Results in the order in which they are ready. `done(student, digest)` tells what was graded before and is skipped.

    Closing the generator ends every worker at once.
    """
    found, stop, local, desks = list(found), threading.Event(), threading.local(), []

    def desk() -> Desk:
        if not hasattr(local, "desk"):
            local.desk = Desk(exam)
            desks.append(local.desk)
        return local.desk

    def one(item: Found, may_wait: bool) -> dict | Found | None:
        if stop.is_set():
            return None
        raw, digest, problem = digest_of(item)
        if done(item.student, digest):
            return None
        if problem:
            return failed(item.student, exam, problem)
        try:
            return judge(raw, item.student, exam, desk(), may_wait)
        except Slow:
            return item
        except SandboxError:
            raise
        except Exception:
            if stop.is_set():  # its worker was taken away
                return None
            # A fault of the grader is no reason to lose the others; the teacher sees the word and the traceback.
            logging.getLogger(__name__).exception("the grader itself failed at a submission")
            return failed(item.student, exam, "crashed", digest)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            waiting = found
            for may_wait in (False, True):
                late = []
                for future in concurrent.futures.as_completed([pool.submit(one, item, may_wait) for item in waiting]):
                    outcome = future.result()
                    if isinstance(outcome, Found):
                        late.append(outcome)
                    elif outcome is not None:
                        yield outcome
                waiting = late
        finally:
            stop.set()
            for one_desk in desks:
                one_desk.clear()


def exam_for(stem: str, tasks: Iterable[Task], case_path: Path, secret: bytes, isolation: str, limits: Limits) -> Exam:
    """The exam of an exercise. ValueError when the cases do not fit the tasks that students get."""
    tasks, file = tuple(tasks), cases.load(case_path)
    worth = {task.id: task.points for task in tasks if task.kind == "code"}
    for task, points in worth.items():
        cased = sum(case.points for case in file.of_task(task))
        if cased != points:
            raise ValueError(f"{case_path}: the cases of {task} are worth {cased:g} points, the notebook promises {points:g}")
    if unknown := {case.task for case in file.cases} - set(worth):
        raise ValueError(f"{case_path}: cases of tasks that the notebook does not have: {', '.join(sorted(unknown))}")
    return Exam(stem, tasks, file, secret, isolation, limits)
