"""What a change to a model costs and gains, in numbers that can be compared.

size.py     parameters, zeros, bytes, multiply-accumulate operations: counted, no randomness
speed.py    latency, a paired ratio of speeds, peak memory: measured, with an interval
quality.py  errors, accuracy with its interval, calibration error, agreement, which samples flip
claims.py   better, worse, or no difference shown: over seeds, or over one test set

A number says how it was come by: a count is exact, a time is a median with an interval, an accuracy belongs to a test set of
n samples. The sizes of files are not here: they are `len(file)`, see `course_lib.storage`.
"""

from course_lib.measure.claims import mcnemar_p, mean_interval, verdict, verdict_on_test_set
from course_lib.measure.quality import (
    Flips,
    accuracy,
    accuracy_interval,
    agreement,
    calibration_error,
    flips,
    n_errors,
    predict,
)
from course_lib.measure.size import dense_bytes, macs, n_nonzero, n_parameters, sparsity
from course_lib.measure.speed import Latency, SpeedRatio, latency, peak_memory, speed_ratio

__all__ = [
    "Flips",
    "Latency",
    "SpeedRatio",
    "accuracy",
    "accuracy_interval",
    "agreement",
    "calibration_error",
    "dense_bytes",
    "flips",
    "latency",
    "macs",
    "mcnemar_p",
    "mean_interval",
    "n_errors",
    "n_nonzero",
    "n_parameters",
    "peak_memory",
    "predict",
    "sparsity",
    "speed_ratio",
    "verdict",
    "verdict_on_test_set",
]
