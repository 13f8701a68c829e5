"""A small exam that costs a third of a second a worker, and a run of it: what the attacks and the crash tests work on.

Two functions in code, a question in prose. The hidden inputs, the hidden checks, the seed and a classmate's answer hold a
canary: a word that must be found in no file that the grader writes.

    python -m tests.grading.attack_exam FOLDER MARK STUDENT...     grades FOLDER/submissions into FOLDER/out, as a user would
"""

import json
import sys
from pathlib import Path

from grading import feedback, grade, records
from grading.gradebook import Gradebook
from grading.notebook import Task, find_submissions
from grading.sandbox import Limits, find_isolation

STEM = "09_9_attacked"
CANARY = "canary7f3a"
SECRET = f"{CANARY}_seed_of_the_exam".encode()
HOLE = "    raise NotImplementedError"
SCALE = "def scale(x, c):\n    return c * x\n"
TOTAL = "def total(x, label):\n    return float(x.sum())\n"
WRONG_SCALE = "def scale(x, c):\n    return x\n"
WRONG_TOTAL = "def total(x, label):\n    return 0.0\n"
TASKS = (
    Task("scale", 2.0, "code", {"en": "Task 1 · Scale", "zh": "任务一 · 缩放"}, (f"def scale(x, c):\n{HOLE}",)),
    Task("total", 2.0, "code", {"en": "Task 2 · Sum", "zh": "任务二 · 求和"}, (f"def total(x, label):\n{HOLE}",)),
    Task("why", 1.0, "prose", {"en": "Task 3 · Why", "zh": "任务三 · 为什么"}, ("*Your answer.*",)),
)
CASES = """\
# canary7f3a_cases
import numpy as np

from grading.cases import Case, expect_close

NEEDS = "numpy"
PRELUDE = "import numpy as np"
SHOWN = {"idea": {"en": "an idea", "zh": "一个想法"}, "hint": {"en": "a hint", "zh": "一个提示"}, "seconds": 4.0}


def numbers(rng):
    return rng.standard_normal(7), float(rng.uniform(2, 3))


def shapes(rng):
    return rng.standard_normal((3, 2, 4)), float(rng.uniform(2, 3))


def scaled(got, x, c):
    expect_close(got, c * x, rtol=1e-12)


def few(rng):
    return rng.standard_normal(50) + 1, "canary7f3a_input"


def many(rng):  # 10 MB
    return rng.standard_normal(1_250_000) + 1, "canary7f3a_input"


def summed(got, x, label):
    expect_close(got, float(x.sum()), rtol=1e-9)


CASES = [
    Case("scale", "numbers", 1, numbers, scaled, "scale", **SHOWN),
    Case("scale", "shapes", 1, shapes, scaled, "scale", **SHOWN),
    Case("total", "few", 1, few, summed, "total", **SHOWN),
    Case("total", "many", 1, many, summed, "total", **SHOWN | {"seconds": 8.0}),
]
"""


def code_cell(name: str, text: str, **flags) -> dict:
    """A code cell as tools/build.py makes it."""
    meta = {"grade": False, "grade_id": name, "locked": False, "schema_version": 3, "solution": True, "task": False} | flags
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {"nbgrader": meta},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }


def check_cell(name: str, text: str) -> dict:
    """A check that students see."""
    return code_cell(f"{name}-check", text, grade=True, locked=True, solution=False, points=2)


def prose_cell(text: str) -> dict:
    """The answer in prose."""
    meta = {
        "grade": True,
        "grade_id": "why",
        "locked": False,
        "points": 1,
        "schema_version": 3,
        "solution": True,
        "task": False,
    }
    return {"cell_type": "markdown", "id": "why", "metadata": {"nbgrader": meta}, "source": [text]}


def cells(scale: str = SCALE, total: str = TOTAL, why: str = "Because.") -> list[dict]:
    """The cells of a submission."""
    return [
        {"cell_type": "markdown", "id": "head", "metadata": {}, "source": ["# An exam"]},
        code_cell("scale", scale),
        check_cell("scale", "assert scale(2.0, 3.0) == 6.0"),
        code_cell("total", total),
        check_cell("total", "import numpy as np\nassert total(np.ones(3), 'x') == 3.0"),
        prose_cell(why),
    ]


def notebook(made: list[dict], nbformat: int = 4, **more) -> bytes:
    """The bytes of a notebook."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": nbformat, "nbformat_minor": 5} | more).encode()


def hand_in(folder: Path, student: str, raw: bytes) -> Path:
    """Put a notebook where the grader looks for it."""
    path = folder / student / f"{STEM}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def write_cases(folder: Path) -> Path:
    """The hidden cases of the exam, in a folder of their own."""
    path = folder / "cases" / f"{STEM}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CASES, "utf-8")
    return path


def exam(case_path: Path, mark: int = 0, seconds: float = 40.0, isolation: str | None = None) -> grade.Exam:
    """The exam. `mark` makes the limit of file size a number that only this run has: it stands in the arguments of every
    worker and of all that it forks, so that whoever lives on can be found."""
    limits = Limits(memory=500_000_000, total_memory=600_000_000, seconds=seconds, processes=24, file_size=15_000_000 + mark)
    return grade.exam_for(STEM, TASKS, case_path, SECRET, isolation or find_isolation(), limits)


def living(*marks: str) -> list[int]:
    """Processes with one of the marks among their arguments."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(mark.encode() in words for mark in marks):
            found.append(int(entry.name))
    return found


def run(folder: Path, made: grade.Exam, jobs: int) -> list[dict]:
    """Grade FOLDER/submissions: gradebook, feedback and exports lie in FOLDER/out afterwards. The rows of the gradebook."""
    out = folder / "out"
    with Gradebook(out / "gradebook.sqlite") as book:

        def done(student: str, digest: str) -> bool:
            return book.already(student, STEM, digest, made.file.digest, grade.GRADER, made.isolation)

        for result in grade.grade_all(find_submissions(folder / "submissions", STEM), made, jobs, done):
            book.add(result)
        rows = book.latest(STEM)
    for row in rows:
        feedback.write(out / "feedback", row, TASKS, made.file, row["marks"])
    for form in records.FORMATS:
        (out / f"export.{form}").write_text(records.export(rows, form, STEM, 5.0), "utf-8")
    return rows


def main(arguments: list[str]) -> None:
    """One JSON line: {student: [points, problem, verdicts]}."""
    folder, mark = Path(arguments[0]), int(arguments[1])
    rows = run(folder, exam(folder / "cases" / f"{STEM}.py", mark), jobs=2)
    found = {}
    for row in rows:
        verdicts = [case["verdict"] for case in row["cases"]]
        found[row["student"]] = [sum(case["earned"] for case in row["cases"]), row["problem"], verdicts]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
