"""Every exercise, as a learner meets it: the solution runs, the hole stops, wrong answers fail and other right ones pass.

The cells of a solution run here in order, in one namespace, without a kernel. Before each answer the namespace is kept; a
wrong or another right answer then starts from there, so a notebook's preamble (data, trained networks) is paid for once.

    tests/grading/wrong/STEM/ANSWERID--what.py           its check must raise
    tests/grading/wrong/STEM/ANSWERID--unseen-what.py    wrong as well, but its check passes: only a hidden case can tell
    tests/grading/right/STEM/ANSWERID--what.py           its check must pass

How many there must be, and what the hidden cases make of them, is in tests/test_grading_cases.py.
"""

import copy
import json
import linecache
import types
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jaxtyping
import matplotlib
import pytest
import torch

from tools import build
from tools.source import EXERCISE, Cell, read_source

ROOT = Path(__file__).resolve().parents[1]
STEMS = sorted(path.stem for path in (ROOT / "solutions/source").glob("*.py"))
GRADING = ROOT / "tests/grading"
BIG = 1_000_000  # values; a larger tensor is shared between the runs: no answer may change its input, and the checks look

each_exercise = pytest.mark.parametrize("stem", STEMS)


@dataclass
class Answer:
    """One answer in code: its cell, the namespace before it, and the cells from there to its last check."""

    cell: Cell
    before: dict
    rng: torch.Tensor
    following: list[Cell] = field(default_factory=list)


@dataclass
class Run:
    """A solution that was run: its namespace, its answers, and the error that stopped it."""

    namespace: dict
    answers: dict[str, Answer] = field(default_factory=dict)
    error: str | None = None


def kept(namespace: dict) -> dict:
    """A copy in which what a run could change in place is copied: tensors, networks, containers; two names of one stay one."""
    memo = {id(v): v for v in namespace.values() if isinstance(v, torch.Tensor) and v.numel() > BIG}
    copied = dict(namespace)
    for name, value in namespace.items():
        if isinstance(value, torch.Tensor | torch.nn.Module | dict | list | set) and name != "__builtins__":
            try:
                copied[name] = copy.deepcopy(value, memo)
            except (RuntimeError, TypeError):  # torch copies no tensor in the middle of a graph; such things are shared
                copied[name] = value
    return copied


def execute(code: str, name: str, namespace: dict) -> None:
    """Run the text of a cell; `inspect.getsource` finds what it defines, as in a notebook."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), namespace)


@pytest.fixture(autouse=True)
def _as_a_learner(monkeypatch):
    """No enforcement of shapes, no windows: a check must fail by its own words, as it does in a learner's notebook."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda *a, **k: None)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    plt.close("all")


@cache
def run_of(stem: str) -> Run:
    """The solution of an exercise, run once for all tests of this file. A missing asset skips with its own sentence."""
    source = read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE)
    if source.problems:
        return Run({}, error="\n".join(source.problems))
    module = types.ModuleType("__main__")
    run = Run(module.__dict__)
    run.namespace["display"] = lambda *objects, **options: None
    cells = [block.en for block in source.blocks if block.en.kind == "code"]
    torch.manual_seed(0)
    for i, cell in enumerate(cells):
        if cell.role == "answer":
            run.answers[cell.id] = Answer(cell, kept(run.namespace), torch.get_rng_state(), _up_to_last_check(cells, i))
        try:
            execute(build.solved(cell.text), cell.where, run.namespace)
        except Exception as error:
            if type(error).__name__ == "AssetError":
                pytest.skip(f"{stem}: {error}")
            run.error = f"{cell.where}: {type(error).__name__}: {error}"
            break
    return run


def _up_to_last_check(cells: list[Cell], i: int) -> list[Cell]:
    """The cells after the answer at `i`, to its last check; other answers among them come with their solution."""
    mine = [k for k, c in enumerate(cells) if c.role == "check" and c.id.startswith(f"{cells[i].id}-check")]
    return cells[i + 1 : max(mine, default=i) + 1]


def try_answer(run: Run, answer: Answer, code: str, name: str) -> tuple[str, Exception | None]:
    """(cell, error) of an answer put in the place of the solution's; ('', None) if every check passes."""
    run.namespace.clear()
    run.namespace.update(kept(answer.before))
    torch.set_rng_state(answer.rng)
    cells = [("answer", code, name)]
    cells += [(c.role, build.solved(c.text), c.where) for c in answer.following]
    for role, text, where in cells:
        try:
            execute(text, where, run.namespace)
        except Exception as error:
            return role, error
    return "", None


def seeded(kind: str, stem: str, answer_id: str) -> list[Path]:
    """The answers of a kind, 'wrong' or 'right', that are kept for one task."""
    return sorted((GRADING / kind / stem).glob(f"{answer_id}--*.py"))


def test_there_is_at_least_one_exercise():
    """Without this an emptied folder would pass every test of this file."""
    assert STEMS, "solutions/source/ holds no exercise"


@each_exercise
def test_the_solution_runs_green_in_order(stem):
    run = run_of(stem)
    assert run.error is None, run.error
    assert run.answers, f"{stem} has no answer in code"


@each_exercise
def test_every_hole_stops_its_check_with_not_implemented(stem):
    """What a learner downloads scores nothing, and says so by NotImplementedError, not by a NameError from elsewhere."""
    run = run_of(stem)
    for answer in run.answers.values():
        role, error = try_answer(run, answer, build.cut(answer.cell.text, "en"), "hole")
        assert isinstance(error, NotImplementedError), f"{answer.cell.where}: the hole ends in {error!r} ({role or 'no'} cell)"


@each_exercise
def test_the_built_exercise_stops_at_its_first_hole(stem):
    """The notebook itself, cell by cell: up to the first answer everything runs, and its hole is where it stops."""
    run = run_of(stem)
    first = next(iter(run.answers.values()))
    for lang in build.LANGUAGES:
        notebook = json.loads((ROOT / f"exercises/{lang}/{stem}.ipynb").read_text("utf-8"))
        cells = [(c["id"], "".join(c["source"])) for c in notebook["cells"] if c["cell_type"] == "code"]
        start = [cell_id for cell_id, _ in cells].index(first.cell.id)
        run.namespace.clear()
        run.namespace.update(kept(first.before))
        with pytest.raises(NotImplementedError):
            for cell_id, text in cells[start : start + 1 + len(first.following)]:
                execute(text, f"{stem}:{cell_id}", run.namespace)


@each_exercise
def test_wrong_answers_fail_their_check(stem):
    """The answer itself must run: what is tested is whether the check sees that the result is wrong."""
    run, problems = run_of(stem), []
    for answer_id, answer in run.answers.items():
        paths = [path for path in seeded("wrong", stem, answer_id) if "--unseen-" not in path.name]
        if not paths:
            problems.append(f"{answer.cell.where}: no wrong answer in tests/grading/wrong/{stem} that the check can see")
        for path in paths:
            role, error = try_answer(run, answer, path.read_text("utf-8"), str(path))
            if error is None:
                problems.append(f"{path.relative_to(ROOT)}: its check passes")
            elif role == "answer":
                problems.append(f"{path.relative_to(ROOT)}: does not even run: {error!r}")
            elif isinstance(error, NameError):
                problems.append(f"{path.relative_to(ROOT)}: the check fails for a missing name only: {error!r}")
    assert not problems, "\n".join(problems)


@each_exercise
def test_other_right_answers_and_unseen_wrong_ones_pass_their_check(stem):
    run, problems = run_of(stem), []
    for answer_id, answer in run.answers.items():
        paths = seeded("right", stem, answer_id)
        paths += [path for path in seeded("wrong", stem, answer_id) if "--unseen-" in path.name]
        for path in paths:
            role, error = try_answer(run, answer, path.read_text("utf-8"), str(path))
            if error is not None:
                problems.append(f"{path.relative_to(ROOT)}: the {role} cell raises {error!r}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("kind", ["wrong", "right"])
def test_every_kept_answer_belongs_to_a_task(kind):
    """A renamed task would leave its answers behind, untested."""
    tasks = {
        f"{stem}/{block.en.id}"
        for stem in STEMS
        for block in read_source(ROOT / f"solutions/source/{stem}.py", ROOT, EXERCISE).blocks
        if block.en.role == "answer"
    }
    for path in sorted((GRADING / kind).glob("*/*.py")):
        task, separator, what = path.stem.partition("--")
        assert separator and what, f"{path.relative_to(ROOT)}: name it ANSWERID--what.py"
        assert f"{path.parent.name}/{task}" in tasks, f"{path.relative_to(ROOT)}: there is no task {task} in {path.parent.name}"
