"""Everything that `make test` runs, part by part, with the seconds each took; it stops at the first red part.

    python tools/run_tests.py                   all parts
    python tools/run_tests.py check             the parts named: check prepare unit mutants notebooks

`prepare` brings the data and trains the networks that the chapters share, once, before notebooks run side by side. Notebooks
run under nbval, a notebook to a process: its outputs are not stored, so a cell passes when it raises nothing, and what a
chapter claims it asserts.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUDGET_S = 15 * 60  # on two cores that do nothing else
CODE = [
    name
    for name in ("course_lib", "tools", "tests", "grading", "benchmarks", "notebooks", "solutions", "site")
    if (ROOT / name).is_dir()
]
PYTEST = ["-m", "pytest", "-n", "2", "--dist", "loadfile"]
NBVAL = [
    "-p",
    "nbval",
    "--nbval-lax",
    "--nbval-current-env",
    "--nbval-cell-timeout=120",
    "--ignore-glob=*checkpoint*",
    "-W",
    "default",
]
PARTS = {
    "check": [
        ["-m", "ruff", "check", "--quiet", *CODE],
        ["-m", "ruff", "format", "--check", "--quiet", *[name for name in CODE if name not in ("notebooks", "solutions")]],
        ["tools/build.py", "--check"],
        ["tools/links.py"],
    ],
    "prepare": [["-m", "course_lib", "prepare", "lenet_300_100", "lenet_5"], ["-m", "course_lib", "prepare", "hinton_teacher"]],
    "unit": [[*PYTEST, "tests"]],
    "mutants": [["-m", "tests.mutants.run"]],
    "notebooks": [[*PYTEST, *NBVAL, "notebooks", "solutions"]],
}


def run(part: str) -> bool:
    """Run every command of a part; True if all are green. One thread each, as in every timing of the course.

    The commands of `prepare` run side by side: training uses one core, and the large network takes as long as the others.
    """
    environment, running = os.environ | {"OMP_NUM_THREADS": "1"}, []
    if not sys.stderr.isatty():
        environment.setdefault("TQDM_MININTERVAL", "15")  # a log file needs no line for every tenth of a second
    for command in PARTS[part]:
        print(f"\n== {part}: python {' '.join(command)}", flush=True)
        running.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment))
        if part != "prepare":
            running[-1].wait()
    failed = [process.args[1:] for process in running if process.wait()]
    for command in failed:
        print(f"== {part}: failed at python {' '.join(command)}", flush=True)
    return not failed


def main(names: list[str]) -> int:
    """Run the named parts (all by default), print the summary; 0 if all are green."""
    if unknown := set(names) - set(PARTS):
        print(f"no part named {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows, green, begin = [], True, time.monotonic()
    for part in names or PARTS:
        if not green:
            rows.append(f"{part:10}       -  not run")
            continue
        start = time.monotonic()
        green = run(part)
        rows.append(f"{part:10} {time.monotonic() - start:6.0f} s  {'green' if green else 'RED'}")
    rows.append(f"{'together':10} {time.monotonic() - begin:6.0f} s  (budget {BUDGET_S} s)")
    print("\n" + "\n".join(rows))
    return int(not green)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
