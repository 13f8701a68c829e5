"""The command line of the grader: grade | doctor | bundle | mark | export | stats. Each has --help.

Nothing is decided here: arguments in, the functions of the other files, sentences out. Exit status 0 when the work was done
(also when every submission is wrong), 1 when it could not be done, 2 when the command was not understood.
"""

import argparse
import os
import re
import secrets
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from grading import by_hand, feedback, records
from grading.cases import CaseFile, load
from grading.cluster import grade_on_cluster
from grading.doctor import report, require_sound
from grading.grade import GRADER, Exam, digest_of, exam_for, grade_all
from grading.gradebook import Gradebook, GradebookError
from grading.notebook import FolderError, Found, Task, find_submissions, tasks_of
from grading.sandbox import ISOLATIONS, ROOT, Limits, SandboxError, find_isolation

CASES = ROOT / "tests/grading"
KNOWN = (GradebookError, SandboxError, FolderError, feedback.FeedbackError, FileNotFoundError, ValueError)

HELP = {
    "grade": """
        Grade a folder of submissions: SUBMISSIONS/student/STEM.ipynb, or in nbgrader's layout
        SUBMISSIONS/student/ASSIGNMENT/NOTEBOOK.ipynb.

        Only the answer cells are taken from a notebook, by their ids; its own check cells, outputs and
        metadata are ignored. The answers run in a sandbox and get inputs that are drawn for this student;
        what comes back is compared outside.

        In OUT you find afterwards: gradebook.sqlite (all attempts), feedback/STUDENT/STEM.md (to hand back),
        and seed (keep it secret, and keep it: with it a regrading draws the same inputs). Killed at any
        moment and started again, the same command goes on where it stopped; what has not changed is not
        graded twice. A changed notebook is a new attempt.

        Time: a call may take 5 s on the clock unless its case says otherwise, an answer cell 10 s to run, a
        submission 60 s together (--seconds), after which its remaining cases are lost. Whoever runs into a
        deadline steps back to the end of the queue first and is judged again there, so a submission that
        loops costs at most about 70 s, and delays the others by 15 s at most.
        """,
    "doctor": """
        See whether this machine can grade: versions, exercises with hidden cases, and thirteen attempts to get
        out of the sandbox (reading hidden cases, writing, network, other processes, memory, disk, processes
        left behind, ...). `grade` makes the same attempts before the first submission and refuses to go on
        when one succeeds.
        """,
    "bundle": """
        Write the zip that students get: exercises, chapters, course_lib, environment files. No solutions and
        no hidden cases: the finished bytes are searched for both, and nothing is written when a line of
        either is found.

        With --nbgrader DIR, a course folder for nbgrader instead: source notebooks with its markers, and its
        configuration.
        """,
    "mark": """
        Mark prose by hand. Shows one answer after the other, without names and in shuffled order, asks points
        and a comment, and saves each at once; q leaves, and the next call goes on. Feedback files are written
        anew at the end.

        With --student, --task and --points (and --comment) one mark is set without questions.
        """,
    "export": """
        Write the marks of an exercise: csv (a column a task), canvas and moodle (for their import), json
        (everything: cases, versions, isolation, fingerprint of the seed). An answer that still waits for a
        mark by hand is named in the column `awaiting marks` of the csv.
        """,
    "stats": """
        See, for each task, the share of students who have all points, and the case at which most failed. A
        case that nearly everybody fails is more often a fault of the statement than of the students.
        """,
}


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments and their help."""
    top = argparse.ArgumentParser(prog="python -m grading", description="Fair marks for notebooks from strangers.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {}
    for name, text in HELP.items():
        text = textwrap.dedent(text).strip()
        first = re.sub(r"\s+", " ", re.split(r"[:.]\s", text)[0])
        style = argparse.RawDescriptionHelpFormatter
        made[name] = commands.add_parser(name, help=first, description=text, formatter_class=style)
    for name in ("grade", "mark", "export", "stats"):
        made[name].add_argument("--exercise", required=True, metavar="STEM", help="for example 03_1_weight_pruning")
        made[name].add_argument("--out", type=Path, default=Path("grades"), metavar="DIR", help="default: grades")
    for name in ("grade", "doctor"):
        made[name].add_argument(
            "--isolation", choices=ISOLATIONS, help="default: bwrap; `none` only for notebooks that you trust like your own"
        )
        made[name].add_argument(
            "--cases", type=Path, default=CASES, metavar="DIR", help="hidden cases of your own: DIR/STEM.py"
        )
    grade = made["grade"]
    grade.add_argument("submissions", type=Path, metavar="SUBMISSIONS")
    grade.add_argument(
        "--jobs", type=_count, default=os.cpu_count() or 1, metavar="N", help="at a time; default: all processors"
    )
    grade.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler: grade on its workers (they need this checkout)"
    )
    grade.add_argument("--seed-file", type=Path, metavar="F", help="default: OUT/seed, made at the first call")
    redo = "grade again what has not changed; `all` for everybody; may be given several times"
    grade.add_argument("--again", action="append", metavar="STUDENT", help=redo)
    grade.add_argument("--seconds", type=_count, default=60, metavar="S", help="for all cases of a submission; default: 60")
    grade.add_argument("--memory", type=_count, default=2000, metavar="MB", help="for a process; 1.5 times that together")
    made["bundle"].add_argument("target", type=Path, metavar="OUT.zip", nargs="?")
    made["bundle"].add_argument("--nbgrader", type=Path, metavar="DIR")
    made["bundle"].add_argument("--language", choices=("en", "zh"), help="default: both in the zip, en for nbgrader")
    made["bundle"].add_argument("--exercise", action="append", metavar="STEM", help="may be given several times; default: all")
    mark = made["mark"]
    for option in ("--student", "--task", "--points", "--comment"):
        mark.add_argument(option, default="" if option == "--comment" else None)
    mark.add_argument("--by", default="", help="who marks; stands in the gradebook")
    mark.add_argument("--names", action="store_true", help="show whose answer it is")
    mark.add_argument("--again", action="store_true", help="also show what has a mark already")
    made["export"].add_argument("--format", choices=records.FORMATS, default="csv")
    made["export"].add_argument("--identity", choices=records.IDENTITIES, default=records.IDENTITIES[0], help="moodle only")
    made["export"].add_argument("--to", type=Path, metavar="FILE", help="default: print it")
    return top


def _count(text: str) -> int:
    """A whole number from 1 to a million."""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 1,000,000")
    return int(text)


def secret_of(path: Path) -> bytes:
    """The secret of a seed file; made, readable for its owner only, when it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
    text = path.read_text("ascii", errors="replace").strip()
    if len(text) < 16:
        raise ValueError(f"the seed in {path} has {len(text)} characters; it needs 16. Delete the file to get a new one.")
    return text.encode()


def grade(options: argparse.Namespace) -> int:
    """Grade a folder; see HELP."""
    isolation = find_isolation(options.isolation)
    tasks = tasks_of(options.exercise, ROOT)
    found = find_submissions(options.submissions, options.exercise)
    secret = secret_of(options.seed_file or options.out / "seed")
    memory = options.memory * 1_000_000
    limits = Limits(memory=memory, total_memory=memory * 3 // 2, seconds=float(options.seconds))
    exam = exam_for(options.exercise, tasks, options.cases / f"{options.exercise}.py", secret, isolation, limits)
    if isolation == "none":
        print("isolation none: whoever wrote these notebooks can read, write and send whatever you can", file=sys.stderr)
    require_sound(isolation, [options.out.resolve(), options.submissions.resolve()])
    crashed = 0
    with Gradebook(options.out / "gradebook.sqlite") as book:
        todo = _todo(book, found, exam, set(options.again or []))
        for result in tqdm(_results(todo, exam, options), total=len(todo), desc="grading", unit="notebook", disable=None):
            book.add(result, again=True)
            crashed += result["problem"] == "crashed"
            tqdm.write(_line(result))
        rows = book.latest(exam.stem)
        _write_feedback(options.out, rows, exam.file, tasks)
        print(records.table(rows))
    print(f"{len(rows)} submissions in {options.out / 'gradebook.sqlite'}; feedback in {options.out / 'feedback'}")
    if crashed:
        print(f"the grader itself failed at {crashed} of them: see above; the same command tries again", file=sys.stderr)
    return int(crashed > 0)


def _todo(book: Gradebook, found: list[Found], exam: Exam, again: set[str]) -> list[Found]:
    """What has to be graded: what is new or changed, and whom `again` names."""
    if unknown := again - {item.student for item in found} - {"all"}:
        raise ValueError(f"--again names who has no submission: {', '.join(sorted(unknown))}")

    def wanted(item: Found) -> bool:
        if again & {"all", item.student}:
            return True
        if item.problem == "missing" and book.attempts(item.student, exam.stem):
            return False  # a notebook that was graded and is no longer there takes no marks away
        return not book.already(item.student, exam.stem, digest_of(item)[1], exam.file.digest, GRADER, exam.isolation)

    todo = [item for item in found if wanted(item)]
    if len(todo) < len(found):
        print(
            f"{len(found) - len(todo)} of {len(found)} notebooks were graded before and have not changed "
            "(other limits or another seed do not count; --again grades them anyway)"
        )
    return todo


def _results(todo: list[Found], exam: Exam, options: argparse.Namespace) -> Iterator[dict]:
    """Results as they come, from this machine or from a cluster."""
    if options.scheduler:
        return grade_on_cluster(todo, exam, options.scheduler)
    return grade_all(todo, exam, options.jobs)


def _line(result: dict) -> str:
    """One line a submission."""
    earned, of = (sum(row[key] for row in result["cases"]) for key in ("earned", "points"))
    by_hand = sum(part["points"] for part in result["prose"])
    what = result["problem"] or f"{earned:g} of {of:g}" + (f", {by_hand:g} by hand" if by_hand else "")
    return f"{result['student']:24.24}  {what:20}  {result['seconds']:6.2f} s"


def _write_feedback(out: Path, rows: list[dict], file: CaseFile, tasks: list[Task]) -> None:
    """The feedback files of the latest results. One that cannot be written is told, and the others are written."""
    for row in rows:
        try:
            feedback.write(out / "feedback", row, tasks, file, row["marks"])
        except feedback.FeedbackError as error:
            print(f"no feedback file for {row['student']!r}: {error}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Known faults are one sentence, never a traceback."""
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a student's name must not stop a terminal that cannot show it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    except KNOWN as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or "no file named"
        cure = "give a path that you may read and write: --out and --seed-file, --to and OUT.zip name where files go"
        print(f"{options.command}: {error.strerror or error} ({where}); {cure}", file=sys.stderr)
        return 1


def doctor(options: argparse.Namespace) -> int:
    """Probe the sandbox; see HELP."""
    return report(options.isolation, options.cases)


def make_bundle(options: argparse.Namespace) -> int:
    """Write the zip or the nbgrader course; see HELP."""
    from grading.bundle import BundleError, bundle, nbgrader_course  # it reads sources with jupytext: seconds to import

    if (options.target is None) == (options.nbgrader is None):
        raise ValueError("name either OUT.zip or --nbgrader DIR")
    try:
        if options.nbgrader:
            names = nbgrader_course(ROOT, options.nbgrader, options.exercise, options.language or "en")
        else:
            languages = (options.language,) if options.language else ("en", "zh")
            names = bundle(ROOT, options.target, options.exercise, languages)
    except BundleError as error:
        raise ValueError(str(error)) from None
    print(f"{len(names)} files in {options.target or options.nbgrader}")
    return 0


def _existing(out: Path) -> Path:
    """The gradebook of a folder, which must be there: reading never makes an empty one."""
    path = out / "gradebook.sqlite"
    if not path.is_file():
        raise FileNotFoundError(f"no gradebook in {out}: grade first, or name its folder by --out")
    return path


def _rows(options: argparse.Namespace) -> list[dict]:
    """The latest results of an exercise. ValueError, naming those that have some, when there are none."""
    with Gradebook(_existing(options.out), read_only=True) as book:
        rows, stems = book.latest(options.exercise), book.stems()
    if not rows:
        raise ValueError(f"no results of {options.exercise} in {options.out}; there are some of {', '.join(stems) or 'none'}")
    return rows


def mark(options: argparse.Namespace) -> int:
    """Marks by hand; see HELP."""
    tasks = tasks_of(options.exercise, ROOT)
    with Gradebook(_existing(options.out)) as book:
        if options.student or options.task or options.points or options.comment:
            if not (options.student and options.task and options.points):
                raise ValueError("--student, --task and --points belong together")
            args = (options.student, options.task, options.points, options.comment)
            print(by_hand.mark(book, options.exercise, *args, by=options.by))
        else:
            titles = {task.id: task.title for task in tasks}
            by_hand.session(book, options.exercise, titles, by=options.by, names=options.names, again=options.again)
        rows = book.latest(options.exercise)
    cases_path = CASES / f"{options.exercise}.py"
    _write_feedback(options.out, rows, load(cases_path), tasks)
    return 0


def export(options: argparse.Namespace) -> int:
    """Write the marks; see HELP."""
    tasks = tasks_of(options.exercise, ROOT)
    rows = _rows(options)
    most = sum(task.points for task in tasks)
    text = records.export(rows, options.format, options.exercise, most, identity=options.identity)
    if options.to:
        options.to.write_text(text, "utf-8", newline="")
        print(f"{len(rows)} students in {options.to}")
    else:
        print(text, end="")
    return 0


def stats(options: argparse.Namespace) -> int:
    """Print the statistics; see HELP."""
    rows = _rows(options)
    print(records.statistics_table(rows))
    return 0


COMMANDS = {"grade": grade, "doctor": doctor, "bundle": make_bundle, "mark": mark, "export": export, "stats": stats}

if __name__ == "__main__":
    sys.exit(main())
