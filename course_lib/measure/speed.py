r"""How fast, and with how much memory: latency, a paired ratio of speeds, peak memory (section 1's "efficiency").

A clock on a busy machine is a noisy instrument, and its noise has one sign: something else can only make a run longer. So

    (1)  latency  =  median of n runs                                  one slow run moves a mean, not a median
    (2)  interval =  [ t_(k), t_(n+1-k) ]  of the sorted times         for the median, whatever the distribution:
         k  =  the largest with  2 P( Bin(n, 1/2) <= k - 1 )  <=  1 - confidence
    (3)  ratio    =  median of  t_baseline,i / t_other,i               pairs measured right after each other

(2) counts on which side of the median a run falls, a fair coin, and nothing else. (3) is how a speed-up is claimed in this
course: when the machine slows down for a second, both members of a pair slow down and the ratio stays; two latencies measured
minutes apart do not have this protection. Within a pair the order alternates, so that a warm cache favours neither.

Peak memory is asked of torch's profiler, which reports each allocation and release of a tensor:

    (4)  peak  =  max over time of the bytes allocated since the start and not yet released

Python's own `tracemalloc` does not see a tensor's storage at all (it lives outside Python's heap), and the process's highest
resident size (`ru_maxrss`) includes everything else, never falls, and does not rise when freed pages are used again.

Left out: memory that a kernel takes for itself inside one operation, the time of the first call (compilation, caches), energy.
`torch.utils.benchmark` and `timeit` do (1); neither pairs.
"""

import gc
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from course_lib._check import check_count, check_number


@dataclass(frozen=True)
class Latency:
    """Seconds of one call: `median_s`, and a 95 % interval [`low_s`, `high_s`] of that median, eqs. (1)-(2).

    Source: order statistics, David & Nagaraja 2003, section 7.1.  Notebook: 02_2_training.
    """

    median_s: float
    low_s: float
    high_s: float
    n_repeats: int
    n_threads: int

    def __str__(self) -> str:
        low, middle, high = (f"{1e3 * t:.3g}" for t in (self.low_s, self.median_s, self.high_s))
        return f"{middle} ms [{low}, {high}], {self.n_threads} thread(s)"


@dataclass(frozen=True)
class SpeedRatio:
    """How many times faster `other` is than `baseline` (above 1 = faster), with a 95 % interval [`low`, `high`], eq. (3).

    Source: order statistics, David & Nagaraja 2003, section 7.1.  Notebook: 02_2_training.
    """

    ratio: float
    low: float
    high: float
    baseline_s: float
    other_s: float
    n_repeats: int
    n_threads: int

    def __str__(self) -> str:
        return f"x {self.ratio:.2f} [{self.low:.2f}, {self.high:.2f}], {self.n_threads} thread(s)"


def _interval_of_median(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Eq. (2). Fewer than 6 values cannot give 95 %: then the smallest and the largest are returned."""
    ordered, n = sorted(values), len(values)
    k, tail = 1, 0.5**n  # tail = P(Bin(n, 1/2) <= k - 1)
    while 2 * (tail + math.comb(n, k) * 0.5**n) <= 1 - confidence:
        tail += math.comb(n, k) * 0.5**n
        k += 1
    return ordered[k - 1], ordered[n - k]


@contextmanager
def _quiet(n_threads: int):
    """n threads and no garbage collection while measuring; both as before afterwards."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(n_threads)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()


def _time(fn: Callable[[], object], n_calls: int) -> float:
    """Seconds of one call, mean over n_calls in a row."""
    started = time.perf_counter()
    for _ in range(n_calls):
        fn()
    return (time.perf_counter() - started) / n_calls


def _warm_up(fn: Callable[[], object], n_warmup: int, at_least_s: float) -> int:
    """Call fn n_warmup times; returns how many calls in a row make a measurement of at least `at_least_s` seconds."""
    fastest = min(_time(fn, 1) for _ in range(n_warmup))
    return max(1, math.ceil(at_least_s / max(fastest, 1e-9)))


def _check_speed(who: str, fns: dict[str, object], n_repeats: int, n_warmup: int, n_threads: int, at_least_s: float) -> None:
    for name, fn in fns.items():
        if not callable(fn):
            raise TypeError(f"{who}: {name} must be a function without arguments, got {type(fn).__name__}; wrap it in a lambda")
    for name, value in (("n_repeats", n_repeats), ("n_warmup", n_warmup), ("n_threads", n_threads)):
        check_count(who, name, value)
    check_number(who, "at_least_s", at_least_s, low=0.0)


def latency(
    fn: Callable[[], object], n_repeats: int = 30, n_warmup: int = 3, n_threads: int = 1, at_least_s: float = 1e-3
) -> Latency:
    r"""Median time of `fn()` in seconds, with its interval, eqs. (1)-(2).

    $$ \mathrm{latency} = \mathrm{median}(t_1, \ldots, t_n) $$

    fn: no arguments, for instance `lambda: model(x)`; the batch is whatever x holds, so say it when you quote the number.
    n_warmup: calls thrown away first.  n_threads: torch's threads during the measurement; put back afterwards. at_least_s: a
    call shorter than this (seconds) is repeated inside one measurement, since a clock's own cost is about 100 ns.

    Raises TypeError for what cannot be called, ValueError for counts below 1.
    Source: David & Nagaraja 2003 (Order Statistics), section 7.1, eq. (7.1.1).  Notebook: 02_2_training.
    """
    _check_speed("latency", {"fn": fn}, n_repeats, n_warmup, n_threads, at_least_s)
    with _quiet(n_threads):
        n_calls = _warm_up(fn, n_warmup, at_least_s)
        times = [_time(fn, n_calls) for _ in range(n_repeats)]
    low, high = _interval_of_median(times)
    return Latency(statistics.median(times), low, high, n_repeats, n_threads)


def speed_ratio(
    baseline: Callable[[], object],
    other: Callable[[], object],
    n_repeats: int = 30,
    n_warmup: int = 3,
    n_threads: int = 1,
    at_least_s: float = 1e-3,
) -> SpeedRatio:
    r"""How many times faster `other()` is than `baseline()`: median of paired ratios, eq. (3); 2 = takes half the time.

    $$ r = \mathrm{median}_i \; t_{\mathrm{baseline}, i} \,/\, t_{\mathrm{other}, i} $$

    The two run in turn, order changing from pair to pair. An interval that contains 1 shows no difference.

    Raises TypeError for what cannot be called, ValueError for counts below 1.
    Source: paired comparison; the interval is that of `latency`.  Notebook: 02_2_training.
    """
    fns = {"baseline": baseline, "other": other}
    _check_speed("speed_ratio", fns, n_repeats, n_warmup, n_threads, at_least_s)
    times: dict[str, list[float]] = {"baseline": [], "other": []}
    with _quiet(n_threads):
        n_calls = {name: _warm_up(fn, n_warmup, at_least_s) for name, fn in fns.items()}
        for i in range(n_repeats):
            for name in ("baseline", "other") if i % 2 == 0 else ("other", "baseline"):
                times[name].append(_time(fns[name], n_calls[name]))
    ratios = [a / b for a, b in zip(times["baseline"], times["other"])]
    low, high = _interval_of_median(ratios)
    medians = (statistics.median(times["baseline"]), statistics.median(times["other"]))
    return SpeedRatio(statistics.median(ratios), low, high, *medians, n_repeats, n_threads)


def peak_memory(fn: Callable[[], object]) -> int:
    r"""Most bytes of tensors alive at once that `fn()` allocated, eq. (4); what was there before does not count.

    $$ \text{peak} = \max_t \sum_{e \le t} \text{bytes}_e $$

    where an event e is an allocation (positive) or a release (negative). Exact and repeatable: 4 bytes a float32 number, so it
    can be predicted from shapes. CPU tensors only.

    Raises TypeError for what cannot be called; what `fn` raises passes through.
    Source: torch.profiler, `profile_memory=True`.  Notebook: 02_2_training.
    """
    _check_speed("peak_memory", {"fn": fn}, 1, 1, 1, 0.0)
    # The tracer behind the profiler prints a line at each start and stop unless told, before its first use, to keep quiet.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        fn()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    memory = [e for e in events if e["name"] == "[memory]" and e["args"]["Device Type"] == 0]
    blocks: dict[int, int] = {}  # address -> bytes, of what fn allocated and has not released
    alive = peak = 0
    for event in sorted(memory, key=lambda e: e["ts"]):
        address, n_bytes = event["args"]["Addr"], event["args"]["Bytes"]
        if n_bytes > 0:
            blocks[address] = n_bytes
            alive += n_bytes
            peak = max(peak, alive)
        else:  # 0 for a block that was there before: its release makes no room for fn
            alive -= blocks.pop(address, 0)
    return peak
