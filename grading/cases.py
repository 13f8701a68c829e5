"""Hidden cases: what a task is judged by. A file of cases is numpy and formulas; it never sees a student's code.

`tests/grading/STEM.py` holds three things:

    NEEDS = "numpy"                                        or "torch": what the worker imports before the answers
    PRELUDE = "import math\\nimport torch"                  what the exercise's setup gives an answer beyond its own imports
    CASES = [Case("mend-listing", "row-means", 2, make, check, call="prune_listing", idea={...}, hint={...}), ...]

For each case the grader draws the arguments, `args = make(rng)`, from a generator that is seeded for this student and this
case; the worker calls the answer with them; `check(got, *args)` compares what came back with an oracle of its own and raises
`Wrong` through one of the `expect_...` functions below. `got` is plain data: numbers, strings, lists, dicts, numpy arrays.

    seed = HMAC-SHA256(secret, exercise / student / case)

Without the secret nobody can know the numbers, so an answer that was written for the visible numbers earns nothing here.
"""

import hashlib
import hmac
import importlib.util
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Why a case gave no points. Feedback shows these words (grading/feedback.py has them in both languages) and nothing more.
CATEGORIES = ("value", "shape", "kind", "nonfinite", "raised", "accepted", "time", "memory", "died", "protocol", "undefined")


class Wrong(Exception):
    """The answer is not what the case wants. Its only text is a category."""

    def __init__(self, category: str = "value"):
        assert category in CATEGORIES, category
        super().__init__(category)
        self.category = category


@dataclass(frozen=True)
class Raised:
    """What stands in the place of a value when a call raised: the built-in exceptions that it was an instance of."""

    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One hidden case of one task.

    task: id of the answer cell.  name: short, [a-z0-9-], unique in the task; it enters the seed, so a change of it draws anew.
    make(rng) -> tuple of arguments; with many=True a list of such tuples.
    check(got, *args) raises Wrong; with many=True check(got, calls), `got` a list with a value or a `Raised` for each call.
    call: name of the student's function, or a driver: a function (answers, *args) -> plain data whose *source* is sent to the
    worker and runs there beside the answers (answers.NAME); it imports what it needs in its own body and holds no verdict.
    echo: `got` becomes (returned, args after the call), to see whether an input was changed.
    idea and hint: {"en": ..., "zh": ...}, one sentence each: what the case tests, and a nudge; no numbers of the case.
    seconds: how long one call may take, on the clock.  uses: other answers that this task calls (told in the feedback).
    """

    task: str
    name: str
    points: float
    make: Callable[[np.random.Generator], Any]
    check: Callable[..., None]
    call: str | Callable
    idea: dict[str, str]
    hint: dict[str, str]
    many: bool = False
    echo: bool = False
    seconds: float = 5.0
    uses: tuple[str, ...] = ()

    def request(self, args: Any) -> dict:
        """The message to the worker. It holds the arguments and the way to call, never what is expected."""
        how = {"name": self.call} if isinstance(self.call, str) else {"driver": textwrap.dedent(inspect.getsource(self.call))}
        return {"op": "call", **how, "calls": list(args) if self.many else [args], "echo": self.echo}

    def judge(self, outcomes: list, args: Any) -> str | None:
        """None if the outcomes of the calls are right, else the category of what is wrong. Nothing that came back can raise."""
        try:
            if self.many:
                self.check(outcomes, args)
            elif isinstance(outcomes[0], Raised):
                raise Wrong("raised")
            else:
                self.check(outcomes[0], *args)
        except Wrong as verdict:
            return verdict.category
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
            return "kind"  # the check could not even compare it; any other exception is a fault of the check, and is told
        return None


@dataclass(frozen=True)
class CaseFile:
    """All cases of an exercise."""

    stem: str
    needs: str
    prelude: str
    cases: tuple[Case, ...]
    digest: str

    def of_task(self, task: str) -> list[Case]:
        """The cases of one task, in order."""
        return [case for case in self.cases if case.task == task]


def load(path: Path) -> CaseFile:
    """Read a file of cases. FileNotFoundError and ValueError say what is missing and the cure."""
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("[0-9]*.py"))) or "none"
        raise FileNotFoundError(f"no hidden cases for {path.stem}: {path} is missing. Exercises with cases: {known}")
    spec = importlib.util.spec_from_file_location(f"grading_cases_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        needs, prelude, rows = module.NEEDS, module.PRELUDE, tuple(module.CASES)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be used ({type(error).__name__}: {error}); it needs NEEDS, PRELUDE and CASES"
        ) from error
    if odd := [row for row in rows if not isinstance(row, Case)]:
        raise ValueError(f"{path}: CASES holds {odd[0]!r}, which is no Case")
    texts = path.with_suffix(".toml")  # ideas and hints, and what is too long for the cases; a change of it is a change of them
    digest = hashlib.sha256(path.read_bytes() + (texts.read_bytes() if texts.is_file() else b"")).hexdigest()
    found = CaseFile(path.stem, needs, prelude, rows, digest)
    if found.needs not in ("numpy", "torch"):
        raise ValueError(f'{path}: NEEDS is {found.needs!r}; write "numpy" or "torch"')
    seen = set()
    for case in found.cases:
        if (case.task, case.name) in seen:
            raise ValueError(f"{path}: the case {case.task}/{case.name} stands twice; rename one")
        if not (case.points > 0 and set(case.idea) == set(case.hint) == {"en", "zh"}):
            raise ValueError(f"{path}: {case.task}/{case.name} needs points above 0, and idea and hint in en and zh")
        seen.add((case.task, case.name))
    return found


def rng_for(secret: bytes, stem: str, student: str, case: Case) -> np.random.Generator:
    """The generator of one student's case, the same at every regrading with the same secret."""
    message = "\0".join((stem, student, case.task, case.name)).encode()
    return np.random.default_rng(int.from_bytes(hmac.digest(secret, message, "sha256"), "little"))


def expect(condition: bool, category: str = "value") -> None:
    """Wrong(category) unless the condition holds."""
    if not condition:
        raise Wrong(category)


def array_of(got: Any) -> np.ndarray:
    """`got` as a numeric array in float64 (for integers beyond 2^53 use expect_equal). Wrong("kind") if it is none."""
    parts = [got]
    while parts:  # numbers all the way down: numpy would pad a list of strings to the longest, without bound
        part = parts.pop()
        if isinstance(part, list | tuple):
            parts += part
        elif not (isinstance(part, bool | int | float) or (isinstance(part, np.ndarray) and part.dtype.kind in "biuf")):
            raise Wrong("kind")
    try:
        return np.asarray(got, dtype=np.float64)
    except (ValueError, OverflowError):  # a ragged list
        raise Wrong("kind") from None


def expect_close(got: Any, want: Any, atol: float = 0.0, rtol: float = 0.0) -> None:
    """|got - want| <= atol + rtol |want| everywhere, shapes equal; infinities must be equal, NaN never passes.

    Numbers, lists of numbers, arrays and tensors of any float type all count as what they hold. Derive the tolerance from the
    arithmetic that the statement allows: float32 sums of n terms carry about n * 6e-8 of the sum of their magnitudes.
    """
    want = np.asarray(want, dtype=np.float64)
    expect(not isinstance(got, np.ndarray) or got.shape == want.shape, "shape")  # before a large array is copied
    got = array_of(got)
    expect(got.shape == want.shape, "shape")
    expect(not np.isnan(got).any() and bool((np.isinf(got) <= np.isinf(want)).all()), "nonfinite")
    finite = np.isfinite(want)
    with np.errstate(invalid="ignore"):
        inside = np.abs(got - want) <= atol + rtol * np.abs(np.where(finite, want, 0.0))
    expect(bool(np.where(finite, inside, got == want).all()))


def expect_equal(got: Any, want: Any) -> None:
    """Exactly equal, value by value; shapes too. 1, 1.0 and True count as the same number, a list as an array."""
    if isinstance(want, str | bytes | dict | None.__class__):
        expect(type(got) is type(want), "kind")
        if isinstance(want, dict):
            expect(got.keys() == want.keys(), "shape")
            for key in want:
                expect_equal(got[key], want[key])
        else:
            expect(got == want)
        return
    if isinstance(want, int) and isinstance(got, int):
        expect(got == want)
        return
    expect_close(got, want)


def expect_raised(got: Any, *kinds: str) -> None:
    """The call raised one of these built-in exceptions. A value is Wrong("accepted"), another exception Wrong("raised")."""
    expect(isinstance(got, Raised), "accepted")
    expect(any(kind in got.kinds for kind in kinds), "raised")


def expect_value(got: Any) -> Any:
    """`got` itself, when the call gave a value; Wrong("raised") when it raised. For cases with many calls."""
    expect(not isinstance(got, Raised), "raised")
    return got
