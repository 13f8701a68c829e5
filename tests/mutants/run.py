"""Small wrong versions of the library, each of which must turn the suite red.

A test counts once it was seen failing. Every `tests/mutants/*.toml` lists mutants: the file, the text to find (exactly
once), the wrong text, and the tests that must notice. This runner copies `course_lib` and `tools`, applies one mutant, runs
its tests and expects a failure. Python and torch are imported once; every mutant then runs in a forked child, so it costs
only its tests.

Run: python -m tests.mutants.run [NAME ...] [--jobs N]   exit 1 if a mutant survives.
"""

import argparse
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 120
IMPORTED_ONCE = (
    *("_hypothesis_pytestplugin", "beartype", "hypothesis", "jaxtyping", "jupytext", "pytest", "torch", "numpy"),
    *("constriction", "filelock", "ipywidgets", "matplotlib.figure", "matplotlib.pyplot", "platformdirs", "scipy.stats"),
    *("sklearn.cluster", "torch.nn.utils.parametrize", "torch.nn.utils.prune", "tqdm.auto", "yaml"),
)


@dataclass(frozen=True)
class Mutant:
    """One wrong edit: `old` stands exactly once in `file` and becomes `new`; `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, source: str) -> str:
        """The wrong source; ValueError where the text to change is missing or ambiguous."""
        if (n := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {n} times in {self.file}, must stand once")
        return source.replace(self.old, self.new)


def load_mutants() -> list[Mutant]:
    """All mutants of all lists, in the order of their files; names are unique, named tests exist."""
    mutants = []
    for path in sorted(Path(__file__).parent.glob("*.toml")):
        for row in tomllib.loads(path.read_text("utf-8"))["mutant"]:
            tests = tuple(row["tests"])
            mutants.append(Mutant(f"{path.stem}/{row['name']}", row["file"], row["old"], row["new"], tests))
    if len({m.name for m in mutants}) != len(mutants):
        raise ValueError("two mutants share a name")
    return mutants


def start(mutant: Mutant, folder: Path) -> int:
    """Fork a child that runs the tests with the mutated copy of the library first on its path; its process id."""
    for name in ("course_lib", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "mutants", "grading"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    target = folder / mutant.file
    target.write_text(mutant.apply(target.read_text("utf-8")), "utf-8")
    if pid := os.fork():
        return pid
    status = 70
    try:
        status = run_pytest(mutant.tests, folder)
    except BaseException:
        traceback.print_exc()
    finally:  # whatever happens, the child must not fall back into the parent's code
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


class FailureCounter:
    """A pytest plugin that counts the tests that ran and failed; errors of import or collection are none of them."""

    n_failed = 0

    def pytest_runtest_logreport(self, report):
        self.n_failed += report.failed and report.when == "call"


def run_pytest(tests: tuple[str, ...], folder: Path) -> int:
    """0: all passed; 1: a test ran and failed; anything else: nothing was proven. All output goes to the folder's log."""
    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "course_lib")]:
        del sys.modules[name]  # the runner itself lives in `tests`; the child must find the copy's
    import pytest

    counter = FailureCounter()
    # What is imported already cannot have its asserts rewritten; pytest warns of that, and a warning is an error here.
    options = ["-x", "-q", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    status = pytest.main([*options, *tests], plugins=[counter])
    return 1 if counter.n_failed else 71 if status == 1 else int(status)


def verdict_of(status: int | None, folder: Path) -> str:
    """'killed', or why not. Only a test that ran and failed kills: an import that broke proves nothing about the tests."""
    if status in (0, 1):
        return ("SURVIVED", "killed")[status]
    ended = f"no end after {TIME_LIMIT_S} s" if status is None else f"pytest ended with {status}"
    return f"no verdict, {ended}:\n" + (folder / "log").read_text("utf-8", "replace")[-1500:]


def judge(mutants: list[Mutant], n_jobs: int) -> Iterator[tuple[Mutant, str]]:
    """Yield each mutant with its verdict, `n_jobs` children at a time. No threads: forking beside them can deadlock."""
    waiting, running = list(reversed(mutants)), {}
    while waiting or running:
        while waiting and len(running) < n_jobs:
            mutant, place = waiting.pop(), tempfile.TemporaryDirectory(prefix="mutant-")
            running[start(mutant, Path(place.name))] = (mutant, place, time.monotonic() + TIME_LIMIT_S)
        for pid, (mutant, place, deadline) in list(running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done and time.monotonic() < deadline:
                continue
            if not done:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            del running[pid]
            with place:
                yield mutant, verdict_of(os.waitstatus_to_exitcode(status) if done else None, Path(place.name))
        time.sleep(0.02)


def main(argv: list[str] | None = None) -> int:
    """Judge the chosen mutants and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="run only mutants whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="children at a time (default: all cores)")
    arguments = parser.parse_args(argv)
    os.environ["COURSE_HYPOTHESIS_PROFILE"] = "mutants"
    # Imported here, before the forks, so that no child pays for it again: more than half of what a mutant costs.
    for name in IMPORTED_ONCE:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # a collection in the child would touch, and so copy, every page of what was imported here
    mutants = [m for m in load_mutants() if not arguments.names or any(n in m.name for n in arguments.names)]
    if not mutants:
        parser.error("no mutant of that name")
    verdicts = []
    for mutant, verdict in judge(mutants, arguments.jobs):
        verdicts.append(verdict)
        print(f"{verdict:9}  {mutant.name}", flush=True)
    n_killed = verdicts.count("killed")
    print(f"{n_killed} of {len(mutants)} mutants killed")
    return int(n_killed < len(mutants))


if __name__ == "__main__":
    sys.exit(main())
