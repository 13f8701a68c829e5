"""Small wrong versions of the library, each of which must turn the suite red.

A test counts once it was seen failing. Every `tests/mutants/*.toml` lists mutants: the file, the text to find (exactly
once), the wrong text, and the tests that must notice. This runner copies `course_lib`, applies one mutant, runs its tests and
expects a failure. Python and torch are imported once; every mutant then runs in a forked child, so it costs only its tests.

Run: python -m tests.mutants.run [NAME ...] [--jobs N]   exit 1 if a mutant survives.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 120


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


def run_tests_on(mutant: Mutant, folder: Path) -> int:
    """In a forked child: pytest's exit status with the mutated copy of the library first on the path."""
    shutil.copytree(ROOT / "course_lib", folder / "course_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "mutants"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    target = folder / mutant.file
    target.write_text(mutant.apply(target.read_text("utf-8")), "utf-8")
    pid = os.fork()
    if pid == 0:
        log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        import pytest

        os._exit(pytest.main(["-x", "-q", "-p", "no:randomly", "-p", "no:xdist", *mutant.tests]))
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return 1  # an endless loop is noticed by anyone: it counts as red


def judge(mutant: Mutant) -> tuple[Mutant, str]:
    """'killed', or why not. Only pytest's status 1 (a test failed) counts: 2 to 5 mean that nothing was tested."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        status = run_tests_on(mutant, Path(name))
        log = (Path(name) / "log").read_text("utf-8", "replace") if status not in (0, 1) else ""
    if status in (0, 1):
        return mutant, ("SURVIVED", "killed")[status]
    return mutant, f"no verdict, pytest ended with {status}:\n{log[-1500:]}"


def main(argv: list[str] | None = None) -> int:
    """Judge the chosen mutants and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="run only mutants whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="children at a time (default: all cores)")
    arguments = parser.parse_args(argv)
    os.environ |= {"COURSE_HYPOTHESIS_PROFILE": "mutants", "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}
    import beartype  # noqa: F401  imported here, before the forks, so that no child pays for it again
    import hypothesis  # noqa: F401
    import torch

    torch.set_num_threads(1)
    mutants = [m for m in load_mutants() if not arguments.names or any(n in m.name for n in arguments.names)]
    if not mutants:
        parser.error("no mutant of that name")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        verdicts = []
        for mutant, verdict in pool.map(judge, mutants):
            verdicts.append(verdict)
            print(f"{verdict:9}  {mutant.name}", flush=True)
    n_killed = verdicts.count("killed")
    print(f"{n_killed} of {len(mutants)} mutants killed")
    return int(n_killed < len(mutants))


if __name__ == "__main__":
    sys.exit(main())
