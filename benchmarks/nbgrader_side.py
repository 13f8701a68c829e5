"""The other side of the grading benchmark: what `nbgrader autograde` takes for the same submissions, and what it gives.

A temporary course of nbgrader is made from the exercise (`grading.bundle.nbgrader_course`), released, and given the
submissions; then each is graded by a call of its own, as a teacher does while they come in, and the clock is that of the call.
Nothing here is imported from nbgrader: it runs in the Python that is named, which may be another environment.

nbgrader runs a submission without a sandbox. HOME and Jupyter's folders are temporary here, but only for those who look where
they are told: give it submissions that you wrote yourself.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from course_lib.assets import cache_folder
from grading.bundle import nbgrader_course

ROOT = Path(__file__).resolve().parents[1]
# Marks by hand are not in it: a prose answer counts 0 until somebody reads it.
SCORES = """
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db", "model-optimization") as book:
    print(json.dumps({student: book.find_submission(sys.argv[1], student).score for student in sys.argv[2:]}))
"""


def environment(home: Path, python: Path) -> dict[str, str]:
    """The environment of nbgrader's processes: homes of their own, the commands beside `python`, one thread, our data."""
    folders = ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
    own = {name: str(home / name.lower()) for name in folders}
    for folder in own.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    # nbgrader calls `alembic` by its bare name, so the folder of `python` must come first.
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    fixed = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "COURSE_CACHE": str(cache_folder()),
        "MPLBACKEND": "agg",
    }
    return os.environ | own | fixed


def autograde_seconds(submissions: dict[str, Path], stem: str, python: Path, limit: float = 600.0) -> dict[str, dict]:
    """{student: {"seconds": of one `nbgrader autograde`, "score": points or None}} for notebooks of one exercise.

    The score is None when nbgrader gave no mark, or ran longer than `limit` seconds and was ended. RuntimeError says what
    nbgrader wrote when not even the course could be made.
    """
    with tempfile.TemporaryDirectory(prefix="nbgrader-", ignore_cleanup_errors=True) as folder:
        home, course = Path(folder) / "home", Path(folder) / "course"
        own = environment(home, Path(python))
        nbgrader_course(ROOT, course, [stem])
        code, _, said = _run([python, "-m", "nbgrader", "generate_assignment", stem], course, own, limit)
        if code != 0:
            raise RuntimeError(f"nbgrader generate_assignment {stem} failed:\n{said}")
        _run([python, "-c", "import matplotlib.pyplot"], course, own, limit)  # builds its font cache, once for all
        found, graded = {}, []
        for student, path in submissions.items():
            there = course / "submitted" / student / stem / f"{stem}.ipynb"
            there.parent.mkdir(parents=True)
            shutil.copyfile(path, there)
            line = [python, "-m", "nbgrader", "autograde", stem, f"--student={student}"]
            code, seconds, _ = _run(line, course, own, limit)
            found[student] = {"seconds": seconds, "score": None}
            graded += [student] if code == 0 else []
        said = _run([python, "-W", "ignore", "-c", SCORES, stem, *graded], course, own, limit)[2]
        for student, score in json.loads(said.strip().split("\n")[-1]).items():
            found[student]["score"] = score
        return found


def _run(line: list, folder: Path, own: dict[str, str], limit: float) -> tuple[int, float, str]:
    """(exit status, seconds, output) of a command; what it leaves behind in its session is ended with it."""
    begin = time.perf_counter()
    with open(folder / "said.txt", "w+b") as said:
        process = subprocess.Popen(
            [str(word) for word in line],
            cwd=folder,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        seconds = time.perf_counter() - begin
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        said.seek(0)
        return code, seconds, said.read().decode("utf-8", "replace")
