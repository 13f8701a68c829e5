"""Grading on a Dask cluster gives the marks that this machine gives. A real scheduler and two real workers, in processes."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grading.gradebook import dump
from grading.sandbox import SandboxError, find_isolation

ROOT = Path(__file__).resolve().parents[1]
STEM = "02_2_training"
CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def grade(folder: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """`python -m grading grade` over a folder, with one seed for all calls."""
    seed = out.parent / "seed"
    seed.write_text("0123456789abcdef" * 4)
    command = [sys.executable, "-m", "grading", "grade", str(folder), "--exercise", STEM, "--out", str(out)]
    return subprocess.run([*command, "--seed-file", str(seed), *more], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture
def submissions(tmp_path):
    """Three students: the solution, the empty exercise in Chinese, and a file that is no notebook."""
    for student, source in (("ada", f"solutions/en/{STEM}.ipynb"), ("bao", f"exercises/zh/{STEM}.ipynb")):
        (tmp_path / "in" / student).mkdir(parents=True)
        shutil.copy(ROOT / source, tmp_path / "in" / student)
    (tmp_path / "in" / "cy").mkdir()
    (tmp_path / f"in/cy/{STEM}.ipynb").write_text("not a notebook")
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def _sandbox():
    try:
        find_isolation()
    except SandboxError as error:
        pytest.skip(f"bubblewrap: {error}")


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed (Dask) is not installed")
def test_a_cluster_gives_the_same_marks(submissions, tmp_path):
    here = grade(submissions, tmp_path / "here")
    assert here.returncode == 0, here.stderr
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # the workers unpickle our functions by name
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(script)], cwd=ROOT, env=environment, text=True, **pipes) as cluster:
        address = cluster.stdout.readline().strip()
        there = grade(submissions, tmp_path / "there", "--scheduler", address)
        cluster.communicate("\n", timeout=60)
    assert there.returncode == 0, there.stderr
    assert dump(tmp_path / "here/gradebook.sqlite") == dump(tmp_path / "there/gradebook.sqlite")


@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed (Dask) is not installed")
def test_a_scheduler_that_is_not_there_is_one_sentence(submissions, tmp_path):
    done = grade(submissions, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
