"""The grader: fair marks for notebooks from strangers. `python -m grading --help` says how, `grading/README.md` why."""

import os

# Before numpy comes: the grader's own arithmetic is small, and its threads would fight the workers for the processors.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
