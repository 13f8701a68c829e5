"""The hidden cases grade: wrong answers of many kinds lose points, right ones in any style lose none.

For each exercise with cases, for three secrets: the stub scores 0, empty-handed answers score 0, the solution and every answer
in tests/grading/right score all points, and every answer in tests/grading/wrong loses at least one. Wrong answers whose name
begins with ANSWERID--unseen pass every visible check: only a hidden case catches them. Then each solution is mutated, one
step at a time; a mutant that keeps all points must stand in tests/grading/equivalent.toml with the reason why it is no fault.
"""

import ast
import tomllib
from pathlib import Path

import jaxtyping
import pytest

from grading.worker import Bench
from tests.grading import prove

ROOT = Path(__file__).resolve().parents[1]
SECRETS = (b"first", b"second", b"third")
EMPTY_HANDED = (
    "None",
    "args[0] if args else 0",
    "0",
    "1.0",
    "True",
    "[]",
    "{}",
    "''",
    "args[0] * 0 if args else 0",
    "len(args) / 0",
)
EQUIVALENT = tomllib.loads((ROOT / "tests/grading/equivalent.toml").read_text("utf-8"))

each = pytest.mark.parametrize("stem", prove.STEMS)
each_task = pytest.mark.parametrize("stem, task", [(s, t) for s in prove.STEMS for t in prove.answers_of(s)])


@pytest.fixture(autouse=True)
def _as_a_student():
    """Shapes are not enforced in a worker either."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def kept(kind: str, stem: str, task: str) -> list[Path]:
    """The answers of a kind, 'wrong' or 'right', that are kept for one task."""
    return sorted((ROOT / "tests/grading" / kind / stem).glob(f"{task}--*.py"))


def test_every_exercise_has_hidden_cases():
    """An exercise without cases could not be graded."""
    assert sorted(p.stem for p in (ROOT / "solutions/source").glob("*.py")) == prove.STEMS


@each
def test_cases_cover_the_tasks_and_their_points(stem):
    file = prove.case_file(stem)
    worth = {task: sum(case.points for case in file.of_task(task)) for task in prove.answers_of(stem)}
    assert worth == prove.points_of(stem)
    assert {case.task for case in file.cases} == set(worth), "a case of a task that does not exist"


@each
def test_an_answer_may_lean_on_the_setup_cell_when_it_is_graded_too(stem):
    """Every helper and import of the setup that has nothing to do with pictures or files is in the prelude."""
    file, given = prove.case_file(stem), {}
    exec(prove.setup(stem), given)
    bench = Bench(file.prelude, file.needs)
    missing = {name for name in given if not name.startswith("_")} - set(vars(bench.module)) - {"plt", "plots", "mnist"}
    assert not missing, f"the setup cell gives {sorted(missing)}, PRELUDE does not"


@each_task
def test_the_stub_and_empty_hands_score_nothing(stem, task):
    texts = {"the stub": prove.stub(stem, task), "an empty cell": ""}
    names = [node.name for node in ast.parse(prove.solution(stem, task)).body if isinstance(node, ast.FunctionDef)]
    for value in EMPTY_HANDED:
        texts[f"return {value}"] = "\n".join(f"def {name}(*args, **kwargs):\n    return {value}\n" for name in names)
    for what, text in texts.items():
        found = prove.verdicts(stem, task, text, SECRETS[0])
        assert prove.earned(stem, task, found) == 0, (
            f"{what} earns points: {[name for name, verdict in found.items() if not verdict]}"
        )


@each_task
def test_right_answers_score_all_points(stem, task):
    paths = kept("right", stem, task)
    assert len(paths) >= 2, f"{len(paths)} right answers in tests/grading/right/{stem}/{task}--*.py, need 2"
    texts = {"the solution": prove.solution(stem, task)} | {path.name: path.read_text("utf-8") for path in paths}
    for what, text in texts.items():
        for secret in SECRETS:
            found = prove.verdicts(stem, task, text, secret)
            assert not any(found.values()), f"{what} loses points with secret {secret}: {found}"


@each_task
def test_wrong_answers_lose_points(stem, task):
    paths = kept("wrong", stem, task)
    assert len(paths) >= 3, f"{len(paths)} wrong answers in tests/grading/wrong/{stem}/{task}--*.py, need 3"
    for path in paths:
        for secret in SECRETS:
            found = prove.verdicts(stem, task, path.read_text("utf-8"), secret)
            assert "undefined" not in found.values(), f"{path.name} does not even run"
            assert any(found.values()), f"{path.name} keeps all points with secret {secret}"


@each
def test_some_wrong_answers_fall_to_hidden_cases_only(stem):
    """tests/test_exercises.py sees that answers of this name pass every visible check."""
    assert list((ROOT / "tests/grading/wrong" / stem).glob("*--unseen-*.py"))


@each_task
def test_mutants_of_the_solution_lose_points(stem, task):
    known = EQUIVALENT.get(stem, {}).get(task, {})
    made, alive = prove.mutants(prove.solution(stem, task)), []
    assert made
    for what, text in made.items():
        found = prove.verdicts(stem, task, text, SECRETS[0], patience=5.0, first_only=True)
        if not any(found.values()):
            alive.append(what)
    assert sorted(set(alive) - set(known)) == [], "these changes of the solution keep all points"
    assert sorted(set(known) - set(made)) == [], "equivalents that no longer exist"
