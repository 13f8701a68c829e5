"""Seconds a submission, ours in its sandbox beside nbgrader, on the same notebooks in the same run.

    python -m benchmarks.grading [--submissions 20] [--without-nbgrader]

Three questions: how long does one submission take, from its bytes to its marks (median; numpy only, and with torch)? How long
does a folder of 100 take, with everything that `python -m grading grade` does, probes and feedback included? How much time
does one endless loop cost the other 99? nbgrader 0.9 needs `pip install -e '.[classroom]'`; where it is missing its rows are
left out. Submissions are the solution, the stub, and wrong and right answers of the proof, put in turn into one cell.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import ROOT, Row, write
from grading.grade import Desk, exam_for, judge
from grading.notebook import tasks_of
from grading.sandbox import Limits, find_isolation

EXERCISES = {"numpy": "02_2_training", "torch": "03_1_weight_pruning"}
TARGET_S = {"numpy": 0.3, "torch": 1.5}
BATCH_S = 90.0
LOOP = "while True:\n    pass\n"


def notebooks(stem: str, n: int) -> dict[str, str]:
    """n submissions as text: name -> notebook. The first is the solution; the others have one answer replaced in turn."""
    solution = json.loads((ROOT / f"solutions/en/{stem}.ipynb").read_text("utf-8"))
    answers = sorted((ROOT / "tests/grading").glob(f"*/{stem}/*--*.py"))
    found = {"student000": json.dumps(solution)}
    for k in range(1, n):
        path = answers[k * 7 % len(answers)]
        copied = json.loads(json.dumps(solution))
        for cell in copied["cells"]:
            if cell["id"] == path.stem.partition("--")[0]:
                cell["source"] = path.read_text("utf-8")
        found[f"student{k:03}"] = json.dumps(copied)
    return found


def with_loop(text: str) -> str:
    """The same notebook with an endless loop in its first answer cell."""
    notebook = json.loads(text)
    first = next(cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("solution"))
    first["source"] = LOOP
    return json.dumps(notebook)


def ours(stem: str, submissions: dict[str, str]) -> list[float]:
    """Seconds of each submission, one at a time, on a desk that is ready: what a teacher waits for the next line."""
    exam = exam_for(
        stem, tasks_of(stem, ROOT), ROOT / f"tests/grading/{stem}.py", b"benchmark", find_isolation("bwrap"), Limits()
    )
    desk, seconds = Desk(exam), []
    try:
        for name, text in submissions.items():
            start = time.perf_counter()
            result = judge(text.encode(), name, exam, desk)
            seconds.append(time.perf_counter() - start)
            assert result["problem"] is None, result["problem"]
    finally:
        desk.clear()
    return seconds


def batch(stem: str, submissions: dict[str, str]) -> float:
    """Seconds of `python -m grading grade` over a folder of all of them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in submissions.items():
            path = Path(folder) / "in" / name / f"{stem}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(text, "utf-8")
        command = [sys.executable, "-m", "grading", "grade", f"{folder}/in", "--exercise", stem, "--out", f"{folder}/out"]
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def nbgrader_seconds(stem: str, submissions: dict[str, str]) -> list[float]:
    """Seconds of `nbgrader autograde` a submission, on the same notebooks."""
    from benchmarks.nbgrader_side import autograde_seconds

    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, text in submissions.items():
            paths[name] = Path(folder) / f"{name}.ipynb"
            paths[name].write_text(text, "utf-8")
        return [row["seconds"] for row in autograde_seconds(paths, stem, sys.executable).values()]


def main(n: int, with_nbgrader: bool) -> None:
    """Measure everything; the figure is written after each row, so that a run that is cut leaves what it has."""
    rows, packages = [], ["numpy", "torch"] + ["nbgrader"] * with_nbgrader
    for needs, stem in EXERCISES.items():
        start = time.perf_counter()
        submissions = notebooks(stem, n)
        seconds = ours(stem, submissions)
        took = time.perf_counter() - start
        rows.append(
            Row(f"median seconds a submission, {needs}, bwrap", statistics.median(seconds), TARGET_S[needs], "<=", 1, took)
        )
        write("grading", rows, packages)
        if with_nbgrader:
            start = time.perf_counter()
            theirs = nbgrader_seconds(stem, dict(list(submissions.items())[: max(3, n // 4)]))
            ratio = statistics.median(theirs) / statistics.median(seconds)
            took = time.perf_counter() - start
            print(f"nbgrader, {stem}: median {statistics.median(theirs):.2f} s of {len(theirs)}")
            rows.append(Row(f"nbgrader's median as a multiple of ours, {needs}", ratio, 2.0, ">=", 1, took))
    hundred = notebooks(EXERCISES["torch"], 100)
    whole = batch(EXERCISES["torch"], hundred)
    rows.append(Row("seconds for a folder of 100, torch", whole, BATCH_S, "<=", 1, whole))
    write("grading", rows, packages)
    looping = hundred | {name: with_loop(hundred[name]) for name in list(hundred)[10:12]}
    delayed = batch(EXERCISES["torch"], looping)
    # Two loops: each costs its cell's 10 s twice (once in the queue, once at its end), side by side on two processors.
    rows.append(Row("the same folder with two endless loops: seconds more", delayed - whole, 30.0, "<=", 1, delayed))
    write("grading", rows, packages)


if __name__ == "__main__":
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--submissions", type=int, default=20)
    cli.add_argument("--without-nbgrader", action="store_true")
    given = cli.parse_args()
    main(given.submissions, not given.without_nbgrader)
